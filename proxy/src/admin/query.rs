//! The query of a list: filters, order, page.

use percent_encoding::percent_decode_str;

/// Items on a page where the query does not say.
const DEFAULT_PER_PAGE: usize = 100;

/// What a list is asked for. Empty texts filter nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// In lower case.
    pub(super) search: String,
    pub(super) status: String,
    pub(super) service_name: String,
    pub(super) middleware_name: String,
    pub(super) sort_by: String,
    pub(super) is_descending: bool,
    page: Result<usize, String>,
    per_page: Result<usize, String>,
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) start: usize,
    pub(super) end: usize,
    /// 1 after the last page, as in Traefik.
    pub(super) next: usize,
}

impl Query {
    /// Reads a query string; parameters that are unknown mean nothing.
    pub(super) fn new(query: &str) -> Self {
        let text = |name: &str| parameter(query, name);
        let direction = text("direction");
        Self {
            search: text("search").to_lowercase(),
            status: text("status"),
            service_name: text("serviceName"),
            middleware_name: text("middlewareName"),
            sort_by: text("sortBy"),
            is_descending: !direction.is_empty() && direction != "asc",
            page: number(&text("page"), "page", 1),
            per_page: number(&text("per_page"), "per_page", DEFAULT_PER_PAGE),
        }
    }

    /// The part of a list of `length` items that is asked for, or Traefik's
    /// complaint about it.
    pub(super) fn page(&self, length: usize) -> Result<Page, String> {
        let per_page = self.per_page.clone()?;
        let page = self.page.clone()?;
        let start = (page - 1).saturating_mul(per_page);
        if start != 0 && start >= length {
            return Err(format!(
                "invalid request: page: {page}, per_page: {per_page}"
            ));
        }
        let end = start.saturating_add(per_page);
        Ok(Page {
            start,
            end: end.min(length),
            next: if end < length { page + 1 } else { 1 },
        })
    }

    /// Whether one of `texts` holds what is searched.
    pub(super) fn finds(&self, texts: &[&str]) -> bool {
        self.search.is_empty()
            || texts
                .iter()
                .any(|text| text.to_lowercase().contains(&self.search))
    }

    /// Whether objects with this status are wanted.
    pub(super) fn wants_status(&self, status: &str) -> bool {
        self.status.is_empty() || self.status.eq_ignore_ascii_case(status)
    }

    /// Whether routers to `service` are wanted. One without provider is that of its router.
    pub(super) fn wants_service(&self, service: &str) -> bool {
        if self.service_name.is_empty() || service.contains('@') {
            return self.service_name.is_empty() || self.service_name == service;
        }
        self.service_name.split('@').next() == Some(service)
    }

    /// Whether routers with these middlewares are wanted.
    pub(super) fn wants_middleware(&self, middlewares: &[String]) -> bool {
        self.middleware_name.is_empty() || middlewares.contains(&self.middleware_name)
    }
}

/// The first value of a parameter, decoded; empty if it is absent.
fn parameter(query: &str, name: &str) -> String {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| decode(key) == name)
        .map_or_else(String::new, |(_, value)| decode(value))
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn number(text: &str, name: &str, default: usize) -> Result<usize, String> {
    if text.is_empty() {
        return Ok(default);
    }
    match text.parse::<i64>() {
        Ok(value) if value > 0 => Ok(usize::try_from(value).unwrap_or(usize::MAX)),
        Ok(value) => Err(format!("invalid request: {name}: {value}")),
        Err(_) => Err(format!("invalid request: {name}: 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_cut_as_in_traefik() {
        let page = |start, end, next| Ok(Page { start, end, next });
        let wrong = |text: &str| Err(format!("invalid request: {text}"));
        let rows = [
            ("", 0, page(0, 0, 1)),
            ("", 250, page(0, 100, 2)),
            ("page=3", 250, page(200, 250, 1)),
            ("page=2&per_page=2", 5, page(2, 4, 3)),
            ("page=3&per_page=2", 5, page(4, 5, 1)),
            ("page=4&per_page=2", 5, wrong("page: 4, per_page: 2")),
            ("page=2", 100, wrong("page: 2, per_page: 100")),
            ("page=0", 5, wrong("page: 0")),
            ("page=-7", 5, wrong("page: -7")),
            ("per_page=x", 5, wrong("per_page: 0")),
            (
                "page=9223372036854775807&per_page=9223372036854775807",
                5,
                wrong("page: 9223372036854775807, per_page: 9223372036854775807"),
            ),
        ];
        for (query, length, expected) in rows {
            assert_eq!(Query::new(query).page(length), expected, "{query}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let query = Query::new("search=A%42+c&search=d&direction=desc&sortBy=rule&junk&=");
        assert_eq!(query.search, "ab c");
        assert!(query.is_descending);
        assert_eq!(query.sort_by, "rule");
        assert!(query.finds(&["xAB Cx"]));
        assert!(!query.finds(&["abc"]));
    }

    #[test]
    fn a_service_without_provider_matches_by_its_first_part() {
        let rows = [
            ("", "s", true),
            ("s@docker", "s", true),
            ("s@docker", "s@docker", true),
            ("s@docker", "s@file", false),
            ("other@docker", "s", false),
        ];
        for (wanted, service, expected) in rows {
            let query = Query::new(&format!("serviceName={wanted}"));
            assert_eq!(query.wants_service(service), expected, "{wanted} {service}");
        }
    }
}
