//! Requests whose end two servers could see in two places.

use super::request::{BAD, Case, Fate, judge};

/// A refusal by code: malformed, or a coding that nobody here knows.
const CODING: Fate = Fate::Refused(&[400, 501]);

fn post(headers: &str, body: &str) -> String {
    format!("POST /case HTTP/1.1\r\nHost: a.test\r\n{headers}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_two_lengths_reaches_nobody() {
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let both = |headers: &str| post(headers, smuggled);
    // Chunked overrides a length (RFC 9112 section 6.1); nothing may follow.
    const CHUNKED: Fate = Fate::RefusedOrLast("");
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n"), "hello");
    let cases: Vec<Case> = vec![
        (
            "length before chunked",
            both("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            CHUNKED,
        ),
        (
            "chunked before length",
            both("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            CHUNKED,
        ),
        (
            "chunked and length 0",
            both("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
            CHUNKED,
        ),
        (
            "chunked and a broken length",
            both("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"),
            CHUNKED,
        ),
        (
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello"),
            BAD,
        ),
        (
            "two lengths, the longer first",
            post("Content-Length: 6\r\nContent-Length: 5\r\n", "hello"),
            BAD,
        ),
        (
            "the same length twice",
            post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
            Fate::RefusedOr("hello"),
        ),
        (
            "a list of equal lengths",
            length("5, 5"),
            Fate::RefusedOr("hello"),
        ),
        ("a list of lengths", length("5, 6"), BAD),
        ("a negative length", length("-5"), BAD),
        ("a length with a plus", length("+5"), BAD),
        ("a hexadecimal length", length("0x5"), BAD),
        ("a length with a fraction", length("5.0"), BAD),
        ("an empty length", length(""), BAD),
        ("a length with a space inside", length("5 0"), BAD),
        ("a length in other digits", length("\u{b2}"), BAD),
        (
            "a length beyond 64 bits",
            length("18446744073709551621"),
            BAD,
        ),
        ("a length of many digits", length(&"9".repeat(400)), BAD),
        (
            "a length with zeros in front",
            length("005"),
            Fate::RefusedOr("hello"),
        ),
        (
            "a length with white space around",
            length(" 5 \t"),
            Fate::RefusedOr("hello"),
        ),
        (
            "space before the colon",
            post("Content-Length : 5\r\n", "hello"),
            BAD,
        ),
        (
            "tab before the colon",
            post("Content-Length\t: 5\r\n", "hello"),
            BAD,
        ),
        (
            "a length in a folded line",
            post("X: a\r\n Content-Length: 5\r\n", "hello"),
            BAD,
        ),
        (
            "a folded length",
            post("Content-Length:\r\n 5\r\n", "hello"),
            BAD,
        ),
        (
            "a twin with an underscore",
            post("Content-Length: 5\r\nContent_Length: 9\r\n", "hello"),
            Fate::RefusedOr("hello"),
        ),
        (
            "a coding with an underscore",
            post(
                "Content-Length: 5\r\nTransfer_Encoding: chunked\r\n",
                "hello",
            ),
            Fate::RefusedOr("hello"),
        ),
        (
            "a GET with a body",
            "GET /case HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            Fate::Served("hello"),
        ),
    ];
    judge(&cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_chunked_alone_is_a_transfer_coding() {
    let coded = |value: &str| {
        post(
            &format!("Transfer-Encoding: {value}\r\n"),
            "5\r\nhello\r\n0\r\n\r\n",
        )
    };
    let lines = |a: &str, b: &str| coded(&format!("{a}\r\nTransfer-Encoding: {b}"));
    let cases: Vec<Case> = vec![
        ("chunked", coded("chunked"), Fate::Served("hello")),
        ("CHUNKED", coded("CHUNKED"), Fate::Served("hello")),
        ("spaces around", coded("  chunked \t"), Fate::Served("hello")),
        ("identity", coded("identity"), CODING),
        ("gzip", coded("gzip"), CODING),
        ("gzip, then chunked", coded("gzip, chunked"), CODING),
        ("chunked, then gzip", coded("chunked, gzip"), CODING),
        ("chunked, then identity", coded("chunked, identity"), CODING),
        ("identity, then chunked", coded("identity, chunked"), CODING),
        ("chunked twice", coded("chunked, chunked"), CODING),
        ("chunked on two lines", lines("chunked", "chunked"), CODING),
        ("chunked, then identity on two lines", lines("chunked", "identity"), CODING),
        ("identity, then chunked on two lines", lines("identity", "chunked"), CODING),
        ("xchunked", coded("xchunked"), CODING),
        ("chunked with a parameter", coded("chunked;q=1"), CODING),
        ("quoted chunked", coded("\"chunked\""), CODING),
        ("an empty coding", coded(""), CODING),
        ("an empty element", coded("chunked,"), Fate::RefusedOr("hello")),
        ("a vertical tab in front", coded("\u{b}chunked"), CODING),
        ("a NUL behind", coded("chunked\0"), CODING),
        ("a high byte behind", coded("chunked\u{a0}"), CODING),
        ("space before the colon", post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), BAD),
        ("a folded line", post("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), BAD),
        (
            "chunked in HTTP/1.0",
            "POST /case HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            CODING,
        ),
    ];
    judge(&cases, &[]).await;
}

#[expect(clippy::too_many_lines, reason = "a table reads best in one piece")]
#[tokio::test(flavor = "multi_thread")]
async fn a_bad_chunk_ends_the_request_before_it_is_whole() {
    const CUT: Fate = Fate::Cut(&[400, 413, 431, 499, 502]);
    let cases: Vec<Case> = vec![
        (
            "an overflowing size",
            chunked("FFFFFFFFFFFFFFFFF\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        (
            "a size that wraps to 5",
            chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        ("a negative size", chunked("-5\r\nhello\r\n0\r\n\r\n"), CUT),
        (
            "a size with a plus",
            chunked("+5\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        ("a size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), CUT),
        ("no size", chunked("\r\nhello\r\n0\r\n\r\n"), CUT),
        (
            "no hexadecimal digit",
            chunked("g\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        (
            "space in front of the size",
            chunked(" 5\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        ("two sizes", chunked("5 5\r\nhello\r\n0\r\n\r\n"), CUT),
        ("data without its end", chunked("5\r\nhelloX0\r\n\r\n"), CUT),
        (
            "data longer than its size",
            chunked("4\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        (
            "a bare LF after the data",
            chunked("5\r\nhello\n0\r\n\r\n"),
            CUT,
        ),
        (
            "a bare LF after the size",
            chunked("5\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        (
            "a bare CR after the size",
            chunked("5\rhello\r\n0\r\n\r\n"),
            CUT,
        ),
        (
            "a bare LF in an extension",
            chunked("5;a\nb\r\nhello\r\n0\r\n\r\n"),
            CUT,
        ),
        (
            "an extension without end",
            chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(40_000))),
            CUT,
        ),
        (
            "extensions without end",
            chunked(&format!(
                "{}0\r\n\r\n",
                format!("1;{}\r\na\r\n", "e".repeat(1000)).repeat(40)
            )),
            CUT,
        ),
        (
            "trailers without end",
            chunked(&format!(
                "0\r\n{}\r\n",
                "X-T: aaaaaaaaaaaaaaaa\r\n".repeat(4000)
            )),
            CUT,
        ),
        (
            "a folded trailer",
            chunked("0\r\nX-T: a\r\n b\r\n\r\n"),
            CUT,
        ),
        (
            "a trailer with a space before its colon",
            chunked("0\r\nX-T : a\r\n\r\n"),
            CUT,
        ),
    ];
    judge(&cases, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extensions_and_trailers_do_not_travel() {
    let cases: Vec<Case> = vec![
        (
            "an extension",
            chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"),
            Fate::Served("hello"),
        ),
        (
            "a size with zeros in front",
            chunked("0005\r\nhello\r\n000\r\n\r\n"),
            Fate::Served("hello"),
        ),
        (
            "a harmless trailer",
            chunked("5\r\nhello\r\n0\r\nX-T: a\r\n\r\n"),
            Fate::Served("hello"),
        ),
        (
            "a length in a trailer",
            chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"),
            Fate::RefusedOr("hello"),
        ),
        (
            "a coding in a trailer",
            chunked("5\r\nhello\r\n0\r\nTransfer-Encoding: gzip\r\n\r\n"),
            Fate::RefusedOr("hello"),
        ),
        (
            "a host in a trailer",
            chunked("5\r\nhello\r\n0\r\nHost: evil.test\r\n\r\n"),
            Fate::RefusedOr("hello"),
        ),
        (
            "an address in a trailer",
            chunked("5\r\nhello\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"),
            Fate::RefusedOr("hello"),
        ),
    ];
    judge(&cases, &[]).await;
}
