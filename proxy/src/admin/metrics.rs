//! `prometheus@internal`: the metrics in Prometheus' text format.

use std::sync::Arc;

use ::http::StatusCode;
use tracing::error;

use super::reply::{Desk, Reply};
use crate::http::{HttpService, Request, ResponseFuture};
use crate::observe::Metrics;

/// Answers with all metrics.
#[derive(Debug)]
pub struct PrometheusService {
    desk: Desk,
    metrics: Arc<Metrics>,
}

impl PrometheusService {
    /// Shows `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            desk: Desk::default(),
            metrics,
        }
    }
}

impl HttpService for PrometheusService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        Box::pin(async move {
            let metrics = Arc::clone(&self.metrics);
            let make = move || Some(render(&metrics));
            self.desk.answer(&request.head.method, make).await
        })
    }
}

fn render(metrics: &Metrics) -> Reply {
    match metrics.render() {
        Ok(text) => {
            let kind = "text/plain; version=0.0.4; charset=utf-8";
            Reply::new(StatusCode::OK, kind, text)
        }
        Err(problem) => {
            error!(error = %problem, "Metrics can't be shown");
            Reply::complaint(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be shown")
        }
    }
}
