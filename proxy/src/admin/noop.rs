//! `noop@internal`: what stands behind routers that only redirect.

use ::http::StatusCode;

use super::reply::Reply;
use crate::http::{HttpService, Request, ResponseFuture};

/// Answers 418 to everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoopService;

impl HttpService for NoopService {
    fn call<'a>(&'a self, request: Request) -> ResponseFuture<'a> {
        Box::pin(async move {
            let reply = Reply::new(StatusCode::IM_A_TEAPOT, "text/plain; charset=utf-8", "");
            reply.respond(&request.head.method)
        })
    }
}
