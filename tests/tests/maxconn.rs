//! The limit of requests for each server, and the queue in front of it, against
//! the built proxy. The servers count for themselves.

#[cfg(test)]
mod maxconn {
    mod balance;
    mod limit;
    mod queue;
    mod retry;
    mod seen;
    mod slot;
    mod stage;
    mod sticky;
}
