//! What is remembered for clients that come back.

use crate::shard::{OffsetForm, Positions, RecoverySecret, RecoverySettings};

use super::{BYTES_MOST, ConfigError, Values, wrong};

/// An hour, after which who comes back might as well load the page.
const WINDOW_S_MOST: usize = 3_600;

pub(super) fn settings(values: &Values) -> Result<RecoverySettings, ConfigError> {
    Ok(RecoverySettings {
        window_ms: values.number_up_to("recovery_window_s", 0, WINDOW_S_MOST)? as u64 * 1_000,
        bytes_max: values.number_up_to("recovery_bytes_max", 0, 64 * BYTES_MOST)?,
        offset: match values.text("recovery_offset") {
            "packet" => OffsetForm::Packet,
            "argument" => OffsetForm::Argument,
            other => return Err(wrong("recovery_offset", format!("`{other}` is neither `packet` nor `argument`"))),
        },
        positions: Positions::Counted,
        secret: values.secret("recovery_secret")?.map(|secret| RecoverySecret::new(secret.as_bytes())),
    })
}
