//! Fields of a JSON object, read as leniently as GORB's clients need.
//!
//! A number may be written as a string and the other way round, `null` and the
//! empty string are as good as nothing (GORB's own tools send them for what was
//! not chosen), names are read in any case as Go does. What nobody asked for is
//! refused by its name: it would have no effect.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Refusal;

/// The longest text of a field, in bytes.
const LONGEST: usize = 1024;

/// The fields of an object that were not read yet.
#[derive(Debug)]
pub(super) struct Fields {
    /// What stands before the names in complaints.
    prefix: &'static str,
    rest: BTreeMap<String, Value>,
}

impl Fields {
    /// The fields of a body.
    pub(super) fn read(body: &[u8]) -> Result<Self, Refusal> {
        let value = serde_json::from_slice(body).map_err(|it| Refusal::Body(it.to_string()))?;
        let Value::Object(map) = value else {
            return Err(Refusal::Body("it is something else".to_owned()));
        };
        Ok(Self::new("", map))
    }

    fn new(prefix: &'static str, map: serde_json::Map<String, Value>) -> Self {
        let rest = map.into_iter();
        let rest = rest.map(|(name, value)| (name.to_ascii_lowercase(), value));
        let rest = rest.collect();
        Self { prefix, rest }
    }

    fn complaint(&self, name: &str, problem: impl Into<String>) -> Refusal {
        Refusal::field(format!("{}{name}", self.prefix), problem)
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.rest.remove(name)?;
        let is_nothing = value.is_null() || value.as_str() == Some("");
        (!is_nothing).then_some(value)
    }

    /// An object inside; its names are shown after `prefix`.
    pub(super) fn object(
        &mut self,
        name: &str,
        prefix: &'static str,
    ) -> Result<Option<Self>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self::new(prefix, map))),
            Some(_) => Err(self.complaint(name, "an object is expected")),
        }
    }

    /// A text.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        let text = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) => text,
            Some(Value::Number(number)) => number.to_string(),
            Some(_) => return Err(self.complaint(name, "a string is expected")),
        };
        if text.len() > LONGEST || text.chars().any(char::is_control) {
            let problem = format!("{LONGEST} bytes at most, without control characters");
            return Err(self.complaint(name, problem));
        }
        Ok(Some(text))
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &mut self,
        name: &str,
        low: i64,
        high: i64,
    ) -> Result<Option<i64>, Refusal> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_i64().or_else(|| whole(number.as_f64()?)),
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(_) => None,
        };
        match number {
            Some(number) if (low..=high).contains(&number) => Ok(Some(number)),
            _ => {
                let problem = format!("a whole number from {low} to {high} is expected");
                Err(self.complaint(name, problem))
            }
        }
    }

    /// A port, not 0; 0 is as good as nothing, as Go writes what was not chosen.
    pub(super) fn port(&mut self, name: &str) -> Result<Option<u16>, Refusal> {
        let number = self.number(name, 0, i64::from(u16::MAX))?;
        let port = number.and_then(|number| u16::try_from(number).ok());
        Ok(port.filter(|port| *port != 0))
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(self.complaint(name, "true or false is expected")),
        }
    }

    /// Refuses what is left.
    pub(super) fn finish(mut self) -> Result<(), Refusal> {
        match self.rest.pop_first() {
            None => Ok(()),
            Some((name, _)) => {
                let name: String = name.chars().take(64).collect();
                Err(self.complaint(&name, "there is no such field"))
            }
        }
    }
}

/// A float that is a whole number, such as `2e2`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "it is whole and small enough to be exact"
)]
fn whole(number: f64) -> Option<i64> {
    let is_exact = number.fract() == 0.0 && number.abs() < 9e15;
    is_exact.then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Fields {
        Fields::read(text.as_bytes()).unwrap()
    }

    #[test]
    fn numbers_and_texts_stand_for_each_other() {
        for text in ["200", "\"200\"", "2e2", "200.0", "\" 200 \""] {
            let mut it = fields(&format!("{{\"Expect\": {text}}}"));
            assert_eq!(it.number("expect", 1, 999).unwrap(), Some(200), "{text}");
        }
        assert_eq!(fields("{\"a\": 5}").text("a").unwrap().unwrap(), "5");
    }

    #[test]
    fn what_is_no_number_is_refused_by_name() {
        let rows = [
            "1.5",
            "-1",
            "\"x\"",
            "1e300",
            "[]",
            "{}",
            "true",
            "18446744073709551616",
        ];
        for text in rows {
            let refusal = fields(&format!("{{\"port\": {text}}}")).port("port");
            let refusal = refusal.unwrap_err().to_string();
            assert!(
                refusal.starts_with("port: a whole number"),
                "{text}: {refusal}"
            );
        }
    }

    #[test]
    fn null_the_empty_text_and_a_port_of_zero_are_nothing() {
        let mut it = fields("{\"a\": null, \"b\": \"\", \"c\": 0}");
        assert_eq!(it.text("a").unwrap(), None);
        assert_eq!(it.number("b", 0, 1).unwrap(), None);
        assert_eq!(it.port("c").unwrap(), None);
        it.finish().unwrap();
    }

    #[test]
    fn unknown_fields_and_other_bodies_are_refused() {
        let refusal = fields("{\"colour\": 1}").finish().unwrap_err();
        assert_eq!(refusal.to_string(), "colour: there is no such field");
        let deep = "[".repeat(100_000);
        for body in ["", "[]", "1", "{", "\u{0}", deep.as_str()] {
            assert!(matches!(
                Fields::read(body.as_bytes()),
                Err(Refusal::Body(_))
            ));
        }
    }
}
