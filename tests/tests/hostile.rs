//! Malformed and hostile input, byte by byte, against the built proxy.
//!
//! Each module stands for one way of doing harm; every case ends with the
//! question whether the proxy still serves. The peers are told what to send
//! verbatim: no library is in between that could know better.

#[cfg(test)]
mod hostile {
    mod crowd;
    mod forwarded;
    mod frames;
    mod framing;
    mod heads;
    mod http2;
    mod idle;
    mod request;
    mod response;
    mod switching;
}
