//! `Around`: what an instance finds outside.

use std::io;
use std::sync::{Mutex, PoisonError};

use sockring::cluster::{Address, Dialled, OutsideWorld, Stream};
use sockring::shard::Entropy;
use tokio::sync::{mpsc, oneshot};

use super::random::Random;
use super::redis::{Dial, SiteId};

/// Its connections to Redis, and its chance.
#[derive(Debug)]
pub struct Around {
    pub site: SiteId,
    pub dials: mpsc::UnboundedSender<Dial>,
    pub random: Mutex<Random>,
}

impl OutsideWorld for Around {
    fn dial<'a>(&'a self, _: &'a Address) -> Dialled<'a> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let gone = || io::Error::from(io::ErrorKind::ConnectionRefused);
            self.dials.send(Dial { site: self.site, answer }).map_err(|_| gone())?;
            let end = answered.await.map_err(|_| gone())??;
            Ok(Box::new(end) as Box<dyn Stream>)
        })
    }

    fn fill(&self, bytes: &mut [u8]) {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dial").field("site", &self.site).finish_non_exhaustive()
    }
}
