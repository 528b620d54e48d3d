//! What a run has found: one JSON object on one line, its keys in the order in which they were put.

use serde_json::Value;

use crate::histogram::Histogram;

#[derive(Debug, Default)]
pub struct Report(Vec<(String, Value)>);

impl Report {
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), value.into()));
    }

    /// A number with three digits after the point, which is more than any of them is exact to.
    pub fn number(&mut self, key: &str, value: f64) {
        self.put(key, (value * 1000.0).round() / 1000.0);
    }

    /// A quotient; `null` if there is nothing to divide by.
    pub fn ratio(&mut self, key: &str, value: f64, by: f64) {
        if by > 0.0 { self.number(key, value / by) } else { self.put(key, Value::Null) }
    }

    pub fn latencies(&mut self, histogram: &Histogram) {
        for (key, share) in [("p50_us", 0.5), ("p99_us", 0.99), ("p99_9_us", 0.999)] {
            self.number(key, histogram.quantile_us(share));
        }
        self.number("max_us", histogram.max_us());
    }

    pub fn print(&self) {
        println!("{}", self.line());
    }

    fn line(&self) -> String {
        let pairs: Vec<String> =
            self.0.iter().map(|(key, value)| format!("{}:{value}", Value::from(key.as_str()))).collect();
        format!("{{{}}}", pairs.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_one_line_of_json_in_order() {
        let mut report = Report::default();
        report.put("mode", "echo");
        report.number("share", 1.0 / 3.0);
        report.ratio("per_cpu_second", 1.0, 0.0);
        assert_eq!(report.line(), r#"{"mode":"echo","share":0.333,"per_cpu_second":null}"#);
    }
}
