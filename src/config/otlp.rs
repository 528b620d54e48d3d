//! Where spans go: a collector of OpenTelemetry.

use crate::spans::SpanRules;

use super::{ConfigError, Values, address, wrong};

const ENDPOINT: &str = "otlp_endpoint";
const RATIO: &str = "otlp_sample_ratio";
const SPANS_MAX: &str = "otlp_spans_max";
const PATH: &str = "/v1/traces";

/// Who collects spans, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpSettings {
    /// Where requests with spans go.
    pub url: String,
    pub rules: SpanRules,
}

/// `None`: nobody collects them.
pub(super) fn settings(values: &Values) -> Result<Option<OtlpSettings>, ConfigError> {
    let sample_ratio: f64 = values.parse(RATIO, "a number from 0 to 1")?;
    if !(0.0..=1.0).contains(&sample_ratio) {
        return Err(wrong(RATIO, format!("`{sample_ratio}` is not a number from 0 to 1")));
    }
    let rules = SpanRules { sample_ratio, spans_max: values.number_up_to(SPANS_MAX, 1, 1_000_000)? };
    let Some(endpoint) = values.optional(ENDPOINT) else { return Ok(None) };
    if address::host(&endpoint).is_none() || endpoint.contains(['?', '#']) {
        return Err(wrong(ENDPOINT, "is not an address such as `http://localhost:4318`"));
    }
    // As SDKs have it: what is given is the base of all signals. Many write the whole address all the same.
    let base = endpoint.trim_end_matches('/');
    Ok(Some(OtlpSettings { url: [base.strip_suffix(PATH).unwrap_or(base), PATH].concat(), rules }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn read(given: &[(&'static str, &str)]) -> Result<Option<OtlpSettings>, ConfigError> {
        let mut values = Values::default();
        for (name, value) in given {
            values.offer(name, (*value).to_owned(), Source::Flag(format!("--{name}")));
        }
        settings(&values)
    }

    #[test]
    fn the_address_is_the_base_of_a_collectors() {
        for (endpoint, url) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://otel.example/v1/traces", "https://otel.example/v1/traces"),
            ("https://otel.example/tenant", "https://otel.example/tenant/v1/traces"),
        ] {
            let settings = read(&[(ENDPOINT, endpoint)]).unwrap().unwrap();
            assert_eq!(settings.url, url);
            assert_eq!(settings.rules, SpanRules { sample_ratio: 1.0, spans_max: 2048 });
        }
        assert_eq!(read(&[]), Ok(None));
        for endpoint in
            ["localhost:4318", "grpc://localhost:4317", "http://", "http://user:word@collector", "http://a?b"]
        {
            assert_eq!(read(&[(ENDPOINT, endpoint)]).unwrap_err().key, ENDPOINT, "{endpoint}");
        }
        for (name, value) in
            [(RATIO, "1.1"), (RATIO, "-0.1"), (RATIO, "NaN"), (RATIO, "half"), (SPANS_MAX, "0"), (SPANS_MAX, "1000001")]
        {
            assert_eq!(read(&[(name, value)]).unwrap_err().key, name, "{value}");
        }
    }
}
