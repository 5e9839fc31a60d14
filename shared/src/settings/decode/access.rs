//! Serde's view of what is inside a [`Node`]: lists, maps, structs, variants.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserializer;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};

use super::context::{Context, Place};
use super::error::DecodeError;
use super::node::NodeDeserializer;
use crate::settings::{Node, Value};

/// The items of a list.
pub(super) struct Items<'n> {
    nodes: std::vec::IntoIter<Cow<'n, Node>>,
    next: usize,
    place: Place<'n>,
    context: &'n Context<'n>,
}

impl<'n> Items<'n> {
    pub(super) fn new(
        nodes: Vec<Cow<'n, Node>>,
        place: Place<'n>,
        context: &'n Context<'n>,
    ) -> Self {
        Self {
            nodes: nodes.into_iter(),
            next: 0,
            place,
            context,
        }
    }

    pub(super) fn borrowed(node: &'n Node) -> Cow<'n, Node> {
        Cow::Borrowed(node)
    }
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(node) = self.nodes.next() else {
            return Ok(None);
        };
        let place = self.place.item(self.next);
        self.next += 1;
        seed.deserialize(NodeDeserializer::new(&node, place, self.context))
            .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.nodes.len())
    }
}

/// The entries of a map, under the names they were written with.
pub(super) struct Named<'n> {
    entries: std::slice::Iter<'n, (String, Node)>,
    value: Option<&'n (String, Node)>,
    within: NodeDeserializer<'n>,
}

impl<'n> Named<'n> {
    pub(super) fn new(entries: &'n [(String, Node)], within: NodeDeserializer<'n>) -> Self {
        Self {
            entries: entries.iter(),
            value: None,
            within,
        }
    }
}

impl<'de> MapAccess<'de> for Named<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.value = self.entries.next();
        let Some((name, node)) = self.value else {
            return Ok(None);
        };
        let place = self.within.place.field(name);
        let key = Node::new(Value::Text(name.clone()), node.origin.clone());
        seed.deserialize(NodeDeserializer::new(&key, place, self.within.context))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let (name, node) = self
            .value
            .take()
            .ok_or_else(|| self.within.invalid("a value without a key"))?;
        let place = self.within.place.field(name);
        seed.deserialize(NodeDeserializer::new(node, place, self.within.context))
    }
}

/// The fields of a struct, under the names the type knows.
pub(super) struct Fields<'n> {
    known: std::vec::IntoIter<(&'static str, &'n Node)>,
    value: Option<(&'static str, &'n Node)>,
    within: NodeDeserializer<'n>,
}

impl<'n> Fields<'n> {
    /// Sorts `entries` into fields and keys that nobody knows; notes the
    /// latter. Null entries are left out.
    pub(super) fn new(
        entries: &'n [(String, Node)],
        fields: &'static [&'static str],
        within: NodeDeserializer<'n>,
    ) -> Result<Self, DecodeError> {
        let mut known = Vec::new();
        let mut seen = HashMap::new();
        let mut result = Ok(());
        for (name, node) in entries {
            let Some(field) = fields.iter().find(|field| field.eq_ignore_ascii_case(name)) else {
                within.context.unknown(node, &within.place, name, fields);
                continue;
            };
            if let Some(first) = seen.insert(*field, name) {
                let message = format!("written twice, as {first:?} and {name:?}");
                let place = within.place.field(field);
                result = Err(within.context.invalid(node, &place, message));
            } else if !matches!(node.value, Value::Null) {
                known.push((*field, node));
            }
        }
        result.map(|()| Self {
            known: known.into_iter(),
            value: None,
            within,
        })
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, DecodeError> {
        self.value = self.known.next();
        let Some((field, _)) = self.value else {
            return Ok(None);
        };
        seed.deserialize(StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, DecodeError> {
        let (field, node) = self
            .value
            .take()
            .ok_or_else(|| self.within.invalid("a value without a key"))?;
        let place = self.within.place.field(field);
        seed.deserialize(NodeDeserializer::new(node, place, self.within.context))
    }
}

/// What is inside a variant of an enum.
pub(super) struct Variant<'n> {
    /// The variant's name and its content, if it was written as a group.
    content: Option<(&'static str, &'n Node)>,
    within: NodeDeserializer<'n>,
}

impl<'n> Variant<'n> {
    pub(super) fn bare(within: NodeDeserializer<'n>) -> Self {
        Self {
            content: None,
            within,
        }
    }

    pub(super) fn with_content(
        name: &'static str,
        content: &'n Node,
        within: NodeDeserializer<'n>,
    ) -> Self {
        Self {
            content: Some((name, content)),
            within,
        }
    }

    /// Hands the content to `read`.
    fn open<V>(
        &self,
        read: impl FnOnce(NodeDeserializer<'_>) -> Result<V, DecodeError>,
    ) -> Result<V, DecodeError> {
        let (name, node) = self
            .content
            .ok_or_else(|| self.within.invalid("needs options"))?;
        let place = self.within.place.field(name);
        read(NodeDeserializer::new(node, place, self.within.context))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        match self.content {
            None => Ok(()),
            Some((
                _,
                Node {
                    value: Value::Null, ..
                },
            )) => Ok(()),
            Some(_) => Err(self.within.invalid("has no options")),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<T::Value, DecodeError> {
        self.open(|content| seed.deserialize(content))
    }

    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.open(|content| content.deserialize_tuple(length, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        // Serde does not say the enum's name here; the variant's stands for it.
        let name = self.content.map_or("", |(name, _)| name);
        self.open(|content| content.deserialize_struct(name, fields, visitor))
    }
}

/// A variant's name together with its content.
pub(super) struct Choice<'n>(pub(super) &'static str, pub(super) Variant<'n>);

impl<'de, 'n> EnumAccess<'de> for Choice<'n> {
    type Error = DecodeError;
    type Variant = Variant<'n>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Variant<'n>), DecodeError> {
        let name = seed.deserialize(StrDeserializer::new(self.0))?;
        Ok((name, self.1))
    }
}
