//! What has been tried for one request, and whether there is a next time.
//!
//! Owns the request's number of attempts, the servers that it will not see again,
//! and the copy of its head for those who ask for retries of what a server has
//! acted upon. It sends nothing and knows no queue; the load balancer asks it.

use std::rc::Rc;

use ::http::StatusCode;
use ::http::request::Parts;
use http_body::Body as _;
use smallvec::SmallVec;

use super::retry_on::RetryOn;
use crate::balance::ServerKey;
use crate::http::client_lines::ClientLines;
use crate::http::{ErrorKind, Exchange, ProxyError, Request, Response, Retry, RetryCause};
use crate::upstream::{Failure, Reuse, is_idempotent};

/// Largest body that is kept to be sent again.
const MAX_BODY: usize = 64 * 1024;

/// How often a connection may be lost under a request that nobody asked to be
/// repeated: first an idle one, and then once more a new one. A request that brings
/// its servers down shall not see them all.
const MAX_LOST: u8 = 2;

/// The attempts of one request.
pub(super) struct Trial<'a> {
    on: &'a RetryOn,
    left: u32,
    lost: u8,
    /// Servers not to go to again.
    pub(super) failed: SmallVec<[ServerKey; 3]>,
    /// Which connections the next attempt may take.
    pub(super) reuse: Reuse,
    /// What the last attempt came to.
    pub(super) last_error: Option<ProxyError>,
    /// Why the next attempt is made.
    again: Option<RetryCause>,
    original: Option<Box<Original>>,
}

/// A request as it came, without its body.
struct Original {
    head: Parts,
    lines: Option<Rc<ClientLines>>,
    has_body: bool,
}

impl<'a> Trial<'a> {
    /// Makes `request` ready to be sent more than once.
    pub(super) fn new(on: &'a RetryOn, retries: u32, request: &mut Request) -> Self {
        let has_body = !request.body.is_end_stream();
        if has_body && retries > 0 {
            request.body.keep(MAX_BODY);
        }
        let original = (retries > 0 && on.reaches_servers()).then(|| {
            Box::new(Original {
                head: request.head.clone(),
                lines: request.exchange.lines.borrow().clone(),
                has_body,
            })
        });
        Self {
            on,
            left: retries,
            lost: 0,
            failed: SmallVec::new(),
            reuse: Reuse::Allowed,
            last_error: None,
            again: None,
            original,
        }
    }

    /// An attempt begins.
    pub(super) fn begin(&mut self, exchange: &Exchange) {
        if let Some(cause) = self.again.take() {
            exchange.note_retry(cause);
        }
    }

    /// Decides on a response: whether to drop it and try again, for which
    /// `request` is ready then.
    pub(super) fn rejects(&mut self, response: &Response, request: &mut Request) -> bool {
        if self.original.is_none() || self.left == 0 {
            return false;
        }
        let status = response.status();
        let is_rejected = status != StatusCode::SWITCHING_PROTOCOLS
            && self.on.takes_status(status.as_u16())
            && self.restore(request);
        if is_rejected {
            self.left -= 1;
            self.again = Some(RetryCause::Status);
        }
        is_rejected
    }

    /// Decides on a failure at `server`: to try again, for which `request` is
    /// ready then, or the end.
    pub(super) fn judge(
        &mut self,
        failure: Failure,
        request: &mut Request,
        server: ServerKey,
    ) -> Result<(), ProxyError> {
        let cause = match self.left {
            0 => None,
            _ => self.cause(&failure, request, server),
        };
        let error = failure.error;
        let Some(cause) = cause else {
            return Err(error);
        };
        self.left -= 1;
        self.last_error = Some(error);
        self.again = Some(cause);
        Ok(())
    }

    /// Why to try again, if so.
    fn cause(
        &mut self,
        failure: &Failure,
        request: &mut Request,
        server: ServerKey,
    ) -> Option<RetryCause> {
        let error = &failure.error;
        let is_whole = failure.is_whole;
        if error.retry == Retry::Always && is_whole && self.on.conn_failure {
            self.failed.push(server);
            return Some(RetryCause::Connect);
        }
        if error.retry == Retry::Idempotent
            && is_whole
            && self.on.lost_race
            && (failure.was_reused || self.lost > 0)
            && self.lost < MAX_LOST
            && is_idempotent(&request.head)
        {
            // An old connection that died says nothing about its server.
            self.lost += 1;
            self.reuse = Reuse::Forbidden;
            return Some(RetryCause::Lost);
        }
        let cause = self.asked_for(error)?;
        self.restore(request).then(|| {
            self.reuse = Reuse::Forbidden;
            cause
        })
    }

    /// What the user wants to be tried again whatever it may do.
    fn asked_for(&self, error: &ProxyError) -> Option<RetryCause> {
        let on = self.on;
        match error.kind {
            ErrorKind::ConnectionLost if error.retry != Retry::Never => {
                on.empty_response.then_some(RetryCause::Lost)
            }
            ErrorKind::ConnectionLost | ErrorKind::BadResponse => {
                on.junk_response.then_some(RetryCause::Junk)
            }
            ErrorKind::ResponseTimeout => on.response_timeout.then_some(RetryCause::Timeout),
            _ => None,
        }
    }

    /// Makes the request what it was, if all of it is still there.
    fn restore(&self, request: &mut Request) -> bool {
        let Some(original) = &self.original else {
            return false;
        };
        if original.has_body && !request.body.rewind() {
            return false;
        }
        request.head = original.head.clone();
        request.exchange.lines.replace(original.lines.clone());
        true
    }
}
