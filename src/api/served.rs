//! What was asked of the API and how it was answered, by route and status, and how long that took.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::shard::Histogram;

use super::metric_rows::values;

const MICROSECONDS: f64 = 1e-6;

/// Counts of all routes, which are ours and no peer's: their number has an end.
#[derive(Debug, Default)]
pub(super) struct ServedRequests {
    routes: Mutex<BTreeMap<&'static str, OfRoute>>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct OfRoute {
    answers: BTreeMap<u16, u64>,
    /// In microseconds.
    times: Histogram,
}

impl ServedRequests {
    /// A request of this route got this status after so long.
    pub(super) fn count(&self, route: &'static str, status: u16, time: Duration) {
        let mut routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_route = routes.entry(route).or_default();
        *of_route.answers.entry(status).or_default() += 1;
        of_route.times.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn all(&self) -> BTreeMap<&'static str, OfRoute> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfAnswer {
    route: &'static str,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: &'static str,
}

/// One histogram per route.
#[derive(Debug)]
struct Times(BTreeMap<&'static str, OfRoute>);

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (route, of_route) in &self.0 {
            let (sum, count, buckets) = values(&of_route.times, MICROSECONDS);
            encoder.encode_family(&RouteLabel { route })?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

pub(super) fn register(registry: &mut Registry, routes: BTreeMap<&'static str, OfRoute>) {
    let answers = Family::<OfAnswer, Counter>::default();
    for (route, of_route) in &routes {
        for (status, count) in &of_route.answers {
            answers.get_or_create(&OfAnswer { route, status: u32::from(*status) }).inc_by(*count);
        }
    }
    registry.register("api_requests", "Requests that were answered, by route and status", answers);
    let help = "Time from the head of a request to its answer, by route";
    registry.register("api_request_seconds", help, Times(routes));
}
