//! One page of metrics, made when it is asked for.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

/// What a page is sent as.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// No example stands beside a value.
type NoLabels = [(&'static str, &'static str); 0];

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only ever grows while the process lives; its name ends in `_total`, which isn't said here.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts in buckets.
    Histogram,
}

/// The metrics of one moment.
#[derive(Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

/// The values of one metric.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: Vec<(Vec<(&'static str, String)>, Sample)>,
}

#[derive(Debug)]
enum Sample {
    Whole(u64),
    Real(f64),
    Histogram { sum: f64, buckets: Vec<(f64, u64)> },
}

impl Page {
    /// A metric, whose values are added to what this answers. Its name is in snake_case with its unit last.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) -> &mut Family {
        self.families.push(Family { name, kind, help, samples: Vec::new() });
        self.families.last_mut().expect("it was just put there")
    }

    /// A metric of one value.
    pub fn one(&mut self, name: &'static str, kind: Kind, help: &'static str, value: u64) {
        self.family(name, kind, help).add(&[], value);
    }

    /// The page as text.
    pub fn render(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry).expect("a text takes whatever is written to it");
        text
    }
}

impl Family {
    /// Adds a value, under labels that no other value of it has.
    pub fn add(&mut self, labels: &[(&'static str, &str)], value: u64) {
        self.push(labels, Sample::Whole(value));
    }

    /// Adds a value that need not be whole.
    pub fn add_real(&mut self, labels: &[(&'static str, &str)], value: f64) {
        self.push(labels, Sample::Real(value));
    }

    /// Adds a histogram: the sum of all values, and the upper bound of each bucket with how many lie in it.
    pub fn add_histogram(&mut self, labels: &[(&'static str, &str)], sum: f64, buckets: Vec<(f64, u64)>) {
        self.push(labels, Sample::Histogram { sum, buckets });
    }

    fn push(&mut self, labels: &[(&'static str, &str)], sample: Sample) {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.samples.push((labels, sample));
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, sample) in &self.samples {
            if labels.is_empty() {
                sample.encode(&mut metric, self.kind)?;
            } else {
                sample.encode(&mut metric.encode_family(labels)?, self.kind)?;
            }
        }
        Ok(())
    }
}

impl Sample {
    fn encode(&self, metric: &mut MetricEncoder<'_>, kind: Kind) -> fmt::Result {
        match (self, kind) {
            (Self::Whole(value), Kind::Counter) => metric.encode_counter::<NoLabels, _, u64>(value, None),
            (Self::Real(value), Kind::Counter) => metric.encode_counter::<NoLabels, _, u64>(value, None),
            (Self::Whole(value), _) => metric.encode_gauge(value),
            (Self::Real(value), _) => metric.encode_gauge(value),
            (Self::Histogram { sum, buckets }, _) => {
                let count = buckets.iter().map(|(_, count)| count).sum();
                metric.encode_histogram::<NoLabels>(*sum, count, buckets, None)
            }
        }
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.families.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_what_prometheus_reads() {
        let mut page = Page::default();
        page.one("mpg_things", Kind::Counter, "How many things", 3);
        let up = page.family("mpg_upstream_up", Kind::Gauge, "Whether it is up");
        up.add(&[("upstream", "a \"quoted\"\\ name\n")], 1);
        up.add_real(&[("upstream", "b")], 0.5);
        let took = page.family("mpg_took_seconds", Kind::Histogram, "How long");
        took.add_histogram(&[("upstream", "a")], 1.5, vec![(0.5, 1), (1.0, 0), (f64::INFINITY, 2)]);
        let expected = r#"# HELP mpg_things How many things
# TYPE mpg_things counter
mpg_things_total 3
# HELP mpg_upstream_up Whether it is up
# TYPE mpg_upstream_up gauge
mpg_upstream_up{upstream="a \"quoted\"\\ name\n"} 1
mpg_upstream_up{upstream="b"} 0.5
# HELP mpg_took_seconds How long
# TYPE mpg_took_seconds histogram
mpg_took_seconds_sum{upstream="a"} 1.5
mpg_took_seconds_count{upstream="a"} 3
mpg_took_seconds_bucket{le="0.5",upstream="a"} 1
mpg_took_seconds_bucket{le="1.0",upstream="a"} 1
mpg_took_seconds_bucket{le="+Inf",upstream="a"} 3
# EOF
"#;
        assert_eq!(page.render(), expected);
    }
}
