//! Serde's view of one [`Node`].
//!
//! Every way out of here either yields a value or has noted a diagnostic with
//! the node's own origin and path.

use std::borrow::Cow;

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::access::{Choice, Fields, Items, Named, Variant};
use super::context::{Context, Place};
use super::error::DecodeError;
use super::scalar::{self, describe};
use crate::settings::tree::DEEPEST;
use crate::settings::{Node, Origin, Value};

/// One node, where it stands, and what the run carries along.
#[derive(Clone, Copy)]
pub(super) struct NodeDeserializer<'n> {
    pub(super) node: &'n Node,
    pub(super) place: Place<'n>,
    pub(super) context: &'n Context<'n>,
}

/// What a struct or a variant is to be filled from.
enum Filling<'n> {
    Entries(&'n [(String, Node)]),
    Defaults,
}

impl<'n> NodeDeserializer<'n> {
    pub(super) fn new(node: &'n Node, place: Place<'n>, context: &'n Context<'n>) -> Self {
        Self {
            node,
            place,
            context,
        }
    }

    /// The same place, with the last of a repeated flag only.
    fn single(self) -> Self {
        Self {
            node: scalar::last_flag(self.node),
            ..self
        }
    }

    pub(super) fn invalid(&self, message: impl Into<String>) -> DecodeError {
        self.context.invalid(self.node, &self.place, message)
    }

    fn expected(&self, what: &str) -> DecodeError {
        self.invalid(format!(
            "expected {what}, got {}",
            describe(&self.node.value)
        ))
    }

    /// Notes what a type had to say about this very node.
    fn settle<V>(&self, result: Result<V, DecodeError>) -> Result<V, DecodeError> {
        result.map_err(|error| match error {
            DecodeError::Message(message) => self.invalid(message),
            DecodeError::Noted => DecodeError::Noted,
        })
    }

    fn check_depth(&self) -> Result<(), DecodeError> {
        if self.place.depth > DEEPEST {
            return Err(self.invalid("nested too deep"));
        }
        Ok(())
    }

    /// Reads a whole number within the range of an integer type.
    fn integer<I>(&self, low: I, high: I) -> Result<I, DecodeError>
    where
        I: TryFrom<i128> + std::fmt::Display + Copy,
    {
        let number = scalar::integer(&self.node.value).ok_or_else(|| self.expected("a number"))?;
        I::try_from(number).map_err(|_| self.expected(&format!("a number from {low} to {high}")))
    }

    /// Whether this says that something optional is not wanted.
    fn is_false(&self) -> bool {
        match &self.node.value {
            Value::Bool(value) => !value,
            Value::Text(text) => text.eq_ignore_ascii_case("false"),
            _ => false,
        }
    }

    /// What the struct called `name` is to be filled from.
    fn filling(&self, name: &str) -> Result<Filling<'n>, DecodeError> {
        let bare = match &self.node.value {
            Value::Map(entries) if !entries.is_empty() => return Ok(Filling::Entries(entries)),
            Value::Map(_) | Value::Null | Value::Bool(_) => true,
            Value::Text(text) => {
                text.is_empty() || text.eq_ignore_ascii_case("true") || self.is_false()
            }
            Value::Integer(_) | Value::Float(_) | Value::List(_) => false,
        };
        let allowed = self.context.allows_empty(name);
        match (bare, allowed, self.is_false()) {
            (true, true, false) => Ok(Filling::Defaults),
            (true, true, true) if self.context.note_off(&self.place) => Ok(Filling::Defaults),
            (true, true, true) => Err(self.invalid("can't be switched off")),
            (true, false, false) => Err(self.invalid("needs options")),
            (false, true, _) => Err(self.expected("named settings, true or false")),
            (_, false, _) => Err(self.expected("named settings")),
        }
    }

    /// The nodes of a list: its own, one per part of a text split at commas,
    /// or the numbered entries of a map.
    fn items(&self) -> Result<Items<'n>, DecodeError> {
        let nodes = match &self.node.value {
            Value::Null => Vec::new(),
            Value::List(items) if matches!(self.node.origin, Origin::Flag(_)) => {
                items.iter().flat_map(split).collect()
            }
            Value::List(items) => items.iter().map(Items::borrowed).collect(),
            Value::Map(entries) => numbered(entries).ok_or_else(|| self.expected("a list"))?,
            _ => split(self.node),
        };
        Ok(Items::new(nodes, self.place, self.context))
    }

    /// The variant that is written here; a name alone, or a group of one.
    fn choice(self, variants: &'static [&'static str]) -> Result<Choice<'n>, DecodeError> {
        let named = |name: &str| {
            variants
                .iter()
                .find(|known| known.eq_ignore_ascii_case(name))
        };
        if let Value::Map(entries) = &self.node.value {
            let [(name, content)] = entries.as_slice() else {
                return Err(self.expected("exactly one named setting"));
            };
            let Some(variant) = named(name) else {
                self.context.unknown(content, &self.place, name, variants);
                return Err(DecodeError::Noted);
            };
            return Ok(Choice(
                variant,
                Variant::with_content(variant, content, self),
            ));
        }
        let text = scalar::text(&self.node.value).ok_or_else(|| self.expected("text"))?;
        match named(text.trim()) {
            Some(variant) => Ok(Choice(variant, Variant::bare(self))),
            None => Err(self.expected(&format!("one of {}", variants.join(", ")))),
        }
    }
}

/// The parts of a text, trimmed; any other node as it is.
fn split(node: &Node) -> Vec<Cow<'_, Node>> {
    let Value::Text(text) = &node.value else {
        return vec![Items::borrowed(node)];
    };
    if text.trim().is_empty() {
        return Vec::new();
    }
    let part = |part: &str| Node::new(Value::Text(part.trim().to_owned()), node.origin.clone());
    text.split(',').map(part).map(Cow::Owned).collect()
}

/// The values of a map whose keys are all numbers, by number.
fn numbered(entries: &[(String, Node)]) -> Option<Vec<Cow<'_, Node>>> {
    let mut items = entries
        .iter()
        .map(|(key, node)| Some((key.parse::<u32>().ok()?, node)))
        .collect::<Option<Vec<_>>>()
        .filter(|items| !items.is_empty())?;
    items.sort_by_key(|(number, _)| *number);
    Some(
        items
            .into_iter()
            .map(|(_, node)| Items::borrowed(node))
            .collect(),
    )
}

/// Integer methods: the number, checked against the type's range.
macro_rules! integers {
    ($($method:ident $visit:ident $type:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            let this = self.single();
            let number = this.integer(<$type>::MIN, <$type>::MAX)?;
            this.settle(visitor.$visit(number))
        }
    )*};
}

impl<'de> Deserializer<'de> for NodeDeserializer<'_> {
    type Error = DecodeError;

    integers! {
        deserialize_i8 visit_i8 i8,
        deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32,
        deserialize_i64 visit_i64 i64,
        deserialize_u8 visit_u8 u8,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64,
    }

    forward_to_deserialize_any! { bytes byte_buf unit unit_struct identifier }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let this = self.single();
        this.check_depth()?;
        this.settle(match &this.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => visitor.visit_seq(this.items()?),
            Value::Map(entries) => visitor.visit_map(Named::new(entries, this)),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let this = self.single();
        let value = scalar::boolean(&this.node.value);
        this.settle(visitor.visit_bool(value.ok_or_else(|| this.expected("true or false"))?))
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let this = self.single();
        let value = scalar::float(&this.node.value);
        this.settle(visitor.visit_f64(value.ok_or_else(|| this.expected("a number"))?))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let this = self.single();
        let text = scalar::text(&this.node.value).ok_or_else(|| this.expected("text"))?;
        this.settle(visitor.visit_str(&text))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let this = self.single();
        if matches!(this.node.value, Value::Null)
            || (this.is_false() && this.context.is_off(&this.place))
        {
            return this.settle(visitor.visit_none());
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.settle(visitor.visit_newtype_struct(self))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.check_depth()?;
        self.settle(visitor.visit_seq(self.items()?))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let this = self.single();
        this.check_depth()?;
        let entries: &[_] = match &this.node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Text(text) if text.is_empty() => &[],
            _ => return Err(this.expected("named settings")),
        };
        this.settle(visitor.visit_map(Named::new(entries, this)))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let this = self.single();
        this.check_depth()?;
        let fields = match this.filling(name)? {
            Filling::Entries(entries) => Fields::new(entries, fields, this)?,
            Filling::Defaults => Fields::new(&[], fields, this)?,
        };
        this.settle(visitor.visit_map(fields))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let this = self.single();
        this.check_depth()?;
        this.settle(visitor.visit_enum(this.choice(variants)?))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.settle(visitor.visit_unit())
    }
}
