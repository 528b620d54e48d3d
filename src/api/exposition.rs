//! In which of two formats the metrics are written: OpenMetrics for who asks for it, else the older text of Prometheus.

/// As the media type names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exposition {
    OpenMetrics,
    Prometheus,
}

impl Exposition {
    /// What an `Accept` header prefers. Without one, or where all is welcome, it is the format that every tool reads.
    pub(super) fn preferred(accept: Option<&str>) -> Exposition {
        let (mut open, mut plain) = (0, 0);
        for range in accept.unwrap_or_default().split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            match &*media {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" | "text/*" | "*/*" => plain = plain.max(weight),
                _ => {}
            }
        }
        // Who names both as dear has named the younger on purpose.
        if open > 0 && open >= plain { Exposition::OpenMetrics } else { Exposition::Prometheus }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// What was written in OpenMetrics, in this format. In the older one a counter's family is called as its series are, an
    /// info is a gauge, and there is no end.
    pub(super) fn of(self, open_metrics: String) -> String {
        if self == Exposition::OpenMetrics {
            return open_metrics;
        }
        let mut text = String::with_capacity(open_metrics.len());
        // The help of a family comes before its type, on which the name depends.
        let mut help = None;
        for line in open_metrics.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["#", "HELP", name, words @ ..] => help = Some((*name, words.join(" "))),
                ["#", "TYPE", name, kind] => {
                    let (suffix, kind) = match *kind {
                        "counter" => ("_total", "counter"),
                        "info" => ("_info", "gauge"),
                        other => ("", other),
                    };
                    if let Some((_, words)) = help.take().filter(|(helped, _)| helped == name) {
                        text += &format!("# HELP {name}{suffix} {words}\n");
                    }
                    text += &format!("# TYPE {name}{suffix} {kind}\n");
                }
                ["#", ..] => {}
                _ => {
                    text += line;
                    text.push('\n');
                }
            }
        }
        text
    }
}

/// A weight between 0 and 1 with at most three digits, as RFC 9110 section 12.4.2 writes it.
fn thousandths(weight: &str) -> u32 {
    let (whole, part) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    let part = format!("{part:0<3}");
    let digits = [whole, part.get(..3).unwrap_or_default()].concat();
    digits.parse::<u32>().map_or(0, |thousandths| thousandths.min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_for_open_metrics_gets_it_and_everybody_else_what_all_tools_read() {
        for (accept, format) in [
            (None, Exposition::Prometheus),
            (Some(""), Exposition::Prometheus),
            (Some("*/*"), Exposition::Prometheus),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), Exposition::Prometheus),
            (Some("application/openmetrics-text"), Exposition::OpenMetrics),
            (Some("Application/OpenMetrics-Text; version=1.0.0"), Exposition::OpenMetrics),
            (Some("application/openmetrics-text;q=0"), Exposition::Prometheus),
            (Some("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.3"), Exposition::Prometheus),
            (Some("application/openmetrics-text,text/plain"), Exposition::OpenMetrics),
            // Prometheus 2 and 3.
            (
                Some("application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"),
                Exposition::OpenMetrics,
            ),
        ] {
            assert_eq!(Exposition::preferred(accept), format, "{accept:?}");
        }
    }

    #[test]
    fn the_older_format_has_counters_by_the_names_of_their_series() {
        let open = "# HELP a What a is.\n# TYPE a counter\na_total{shard=\"0\"} 1\n# HELP b B.\n# TYPE b gauge\n\
                    # UNIT b bytes\nb 2\n# HELP c C.\n# TYPE c info\nc_info{version=\"1\"} 1\n# EOF\n";
        let older = "# HELP a_total What a is.\n# TYPE a_total counter\na_total{shard=\"0\"} 1\n# HELP b B.\n\
                     # TYPE b gauge\nb 2\n# HELP c_info C.\n# TYPE c_info gauge\nc_info{version=\"1\"} 1\n";
        assert_eq!(Exposition::Prometheus.of(open.to_owned()), older);
        assert_eq!(Exposition::OpenMetrics.of(open.to_owned()), open);
    }
}
