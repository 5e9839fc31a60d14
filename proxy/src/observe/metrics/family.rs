//! The metric families of one level: entry points, routers or services.
//!
//! Owns their names and labels, and turns what scopes have counted into
//! families when metrics are scraped.

use prometheus::proto::{
    Bucket, Counter, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts};

use super::scope::{Counted, Scope};

/// What requests are counted by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    EntryPoint,
    Router,
    Service,
}

impl Level {
    fn prefix(self) -> &'static str {
        match self {
            Self::EntryPoint => "traefik_entrypoint",
            Self::Router => "traefik_router",
            Self::Service => "traefik_service",
        }
    }

    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::EntryPoint => &["entrypoint"],
            Self::Router => &["router", "service"],
            Self::Service => &["service"],
        }
    }
}

/// Traefik's five families of one level.
#[derive(Debug)]
pub(super) struct Families {
    level: Level,
    /// Upper bounds of the durations' buckets in seconds, without the infinite one.
    bounds: Box<[f64]>,
    /// The same in nanoseconds.
    pub(super) limits: Box<[u64]>,
    /// Labels made of request headers.
    pub(super) header_labels: Box<[String]>,
}

impl Families {
    pub(super) fn new(
        level: Level,
        buckets: &[f64],
        header_labels: &[String],
    ) -> Result<Self, prometheus::Error> {
        let mut labels = [&["code", "method", "protocol"], level.labels()].concat();
        labels.extend(header_labels.iter().map(String::as_str));
        // Only to learn whether labels and buckets can be used.
        IntCounterVec::new(Opts::new("labels", "labels"), &labels)?;
        let options = HistogramOpts::new("buckets", "buckets").buckets(buckets.to_vec());
        Histogram::with_opts(options)?;
        let buckets = if buckets.is_empty() {
            prometheus::DEFAULT_BUCKETS
        } else {
            buckets
        };
        let bounds: Box<[f64]> = buckets
            .iter()
            .copied()
            .filter(|bound| bound.is_finite())
            .collect();
        Ok(Self {
            level,
            limits: bounds.iter().copied().map(nanoseconds).collect(),
            bounds,
            header_labels: header_labels.into(),
        })
    }

    /// What `scopes`, all of this level, have counted.
    pub(super) fn collect<'a>(&self, scopes: impl Iterator<Item = &'a Scope>) -> Vec<MetricFamily> {
        let mut requests = self.family("requests_total", "Requests answered");
        let mut tls = self.family("requests_tls_total", "Requests that came over TLS");
        let mut durations = self.family(
            "request_duration_seconds",
            "Time from a request's head to the end of its response",
        );
        durations.set_field_type(MetricType::HISTOGRAM);
        let mut received = self.family("requests_bytes_total", "Bytes of request bodies read");
        let mut sent = self.family("responses_bytes_total", "Bytes of response bodies sent");
        for scope in scopes {
            scope.for_each_outcome(|outcome, counted| {
                let labels = self.labels(scope, outcome, &[]);
                if self.header_labels.is_empty() {
                    push(&mut requests, counter(labels.clone(), counted.requests()));
                }
                push(
                    &mut received,
                    counter(labels.clone(), counted.request_bytes),
                );
                push(&mut sent, counter(labels.clone(), counted.response_bytes));
                push(&mut durations, self.histogram(labels, counted));
            });
            scope.for_each_header_row(|outcome, values, count| {
                push(
                    &mut requests,
                    counter(self.labels(scope, outcome, values), count),
                );
            });
            for ((version, cipher), count) in scope.tls_counts() {
                let own = [("tls_version", version), ("tls_cipher", cipher)];
                push(&mut tls, counter(self.labels(scope, &own, &[]), count));
            }
        }
        let mut families = vec![requests, tls, durations, received, sent];
        families.iter_mut().for_each(sort);
        families
    }

    fn family(&self, what: &str, help: &str) -> MetricFamily {
        let mut family = MetricFamily::default();
        family.set_name(format!("{}_{what}", self.level.prefix()));
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::COUNTER);
        family
    }

    /// The labels of one series, by their names.
    fn labels(&self, scope: &Scope, own: &[(&str, &str)], headers: &[String]) -> Vec<LabelPair> {
        let names = self.level.labels().iter().copied();
        let of_scope = names.zip(scope.labels().iter().map(|label| &**label));
        let of_headers = self.header_labels.iter().map(String::as_str);
        let of_headers = of_headers.zip(headers.iter().map(String::as_str));
        let mut pairs: Vec<_> = own
            .iter()
            .copied()
            .chain(of_scope)
            .chain(of_headers)
            .collect();
        pairs.sort_unstable();
        pairs.into_iter().map(pair).collect()
    }

    fn histogram(&self, labels: Vec<LabelPair>, counted: &Counted) -> Metric {
        let mut below = 0;
        let buckets = self.bounds.iter().zip(&counted.durations);
        let buckets = buckets.map(|(bound, count)| {
            below += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(below);
            bucket
        });
        let mut histogram = HistogramProto::default();
        histogram.set_bucket(buckets.collect());
        histogram.set_sample_count(counted.requests());
        histogram.set_sample_sum(number(counted.nanoseconds) / 1e9);
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(histogram);
        metric
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    std::time::Duration::try_from_secs_f64(seconds.max(0.0))
        .ok()
        .and_then(|bound| u64::try_from(bound.as_nanos()).ok())
        .unwrap_or(u64::MAX)
}

fn pair((name, value): (&str, &str)) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

fn counter(labels: Vec<LabelPair>, value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(number(value));
    let mut metric = Metric::from_label(labels);
    metric.set_counter(counter);
    metric
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows no other numbers"
)]
fn number(value: u64) -> f64 {
    value as f64
}

fn push(family: &mut MetricFamily, metric: Metric) {
    family.mut_metric().push(metric);
}

/// The order of Prometheus' own library: by the labels' values.
fn sort(family: &mut MetricFamily) {
    fn values(metric: &Metric) -> impl Iterator<Item = &str> {
        metric.get_label().iter().map(LabelPair::value)
    }
    family.mut_metric().sort_by(|a, b| values(a).cmp(values(b)));
}
