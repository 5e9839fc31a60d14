//! Reads a document piece by piece, so that what stands before a mistake is not lost.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::{CHALLENGES, Document, FAILURES, FormatError, Resolver};

/// Members of a file of Traefik 1, where Traefik 2 has names of resolvers.
const VERSION_1: [&str; 5] = [
    "Account",
    "Certificates",
    "DomainsCertificate",
    "HTTPChallenges",
    "TLSChallenges",
];

/// In serde_json's words, which end in the place: it is cut off there.
const PLACE: &str = " at line ";

pub(super) fn document(text: &[u8]) -> Result<Document, (FormatError, Document)> {
    let mut document = Document::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let outcome = Resolvers(&mut document)
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end());
    let Err(error) = outcome else {
        return Ok(document);
    };
    if is_version_1(text) {
        return Err((FormatError::Version1, Document::default()));
    }
    let message = error.to_string();
    let message = message
        .rsplit_once(PLACE)
        .map_or(&*message, |(text, _)| text);
    let error = FormatError::Broken {
        line: error.line(),
        column: error.column(),
        message: message.to_owned(),
    };
    Err((error, document))
}

/// A resolver that is called `Account` would look different inside.
fn is_version_1(text: &[u8]) -> bool {
    let Ok(Value::Object(members)) = serde_json::from_slice(text) else {
        return false;
    };
    let of_version_1 = |(name, value): (&String, &Value)| {
        let is_resolver = value.get("Account").is_some() || value.get("Certificates").is_some();
        VERSION_1.contains(&name.as_str()) && !is_resolver && !value.is_null()
    };
    members.iter().any(of_version_1)
}

/// The outermost object: resolvers by name.
struct Resolvers<'a>(&'a mut Document);

impl<'de> DeserializeSeed<'de> for Resolvers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Resolvers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with resolvers by name")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let part = self.0.resolvers.entry(name).or_default();
            map.next_value_seed(Part(part))?;
        }
        Ok(())
    }
}

/// One resolver's object, or `null`.
struct Part<'a>(&'a mut Resolver);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with Account and Certificates")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(member) = map.next_key::<String>()? {
            match member.as_str() {
                "Account" | "account" => self.0.account = map.next_value()?,
                "Certificates" | "certificates" => {
                    map.next_value_seed(List(&mut self.0.certificates))?;
                }
                CHALLENGES => {
                    let mut challenges = None;
                    map.next_value_seed(List(&mut challenges))?;
                    self.0.challenges = challenges.unwrap_or_default();
                }
                FAILURES => {
                    let mut failures = None;
                    map.next_value_seed(List(&mut failures))?;
                    self.0.failures = failures.unwrap_or_default();
                }
                "PrivateKey" | "Registration" | "Email" => {
                    return Err(A::Error::custom("an account where a resolver should be"));
                }
                _ => {
                    let value = map.next_value()?;
                    self.0.rest.insert(member, value);
                }
            }
        }
        Ok(())
    }
}

/// A list, or `null`.
struct List<'a, T>(&'a mut Option<Vec<T>>);

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for List<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let items = self.0.get_or_insert_default();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(())
    }
}
