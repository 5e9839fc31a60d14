//! The few messages of nftables that a filter of our own needs.
//!
//! Owns their layout (linux/netfilter/nf_tables.h): attributes are in network
//! byte order, the heads of messages in the machine's. Bytes only; `filter`
//! sends them. What the kernel answers is read totally.

/// The family `arp`.
const ARP: u8 = 3;
/// nfnetlink's number of nftables, the high byte of its message types.
const SUBSYSTEM: u16 = 10;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = kind(0);
const DELETE_TABLE: u16 = kind(2);
const NEW_CHAIN: u16 = kind(3);
const NEW_RULE: u16 = kind(6);
const GET_RULE: u16 = kind(7);

const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;

/// The head of a netlink message, and nfnetlink's after it.
const HEAD: usize = 16;
const HEADS: usize = HEAD + 4;

const fn kind(number: u16) -> u16 {
    SUBSYSTEM << 8 | number
}

/// When a chain is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// For what arrives.
    Input = 0,
    /// For what leaves.
    Output = 1,
}

/// What is compared, and done, in a rule: in this order, until something does
/// not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The bytes at this offset of the ARP message are these.
    Matches(u32, Vec<u8>),
    /// It arrived by the interface of this number, or (if not) by another.
    ArrivedBy(u32, bool),
    /// It leaves by the interface of this number.
    LeavesBy(u32),
    /// The bytes at this offset become these.
    Replace(u32, Vec<u8>),
    /// Throw it away.
    Drop,
    /// Let it go, and ask no further rule.
    Accept,
}

/// Messages to the kernel, one after the other, that take effect together.
#[derive(Debug)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where the last message begins.
    last: usize,
    number: u32,
    table: &'static str,
}

impl Batch {
    /// Begins a batch about this table.
    pub(super) fn new(table: &'static str) -> Self {
        let mut batch = Self {
            bytes: Vec::new(),
            last: 0,
            number: 0,
            table,
        };
        batch.push(BATCH_BEGIN, REQUEST, |_| {});
        batch
    }

    /// The table is there afterwards, with nothing in it.
    pub(super) fn empty_table(mut self) -> Self {
        self = self.new_table();
        self = self.delete_table();
        self.new_table()
    }

    /// The table is gone afterwards, if it was there.
    pub(super) fn no_table(self) -> Self {
        self.new_table().delete_table()
    }

    fn new_table(mut self) -> Self {
        let table = self.table;
        self.push(NEW_TABLE, REQUEST | CREATE, |it| it.text(1, table));
        self
    }

    fn delete_table(mut self) -> Self {
        let table = self.table;
        self.push(DELETE_TABLE, REQUEST, |it| it.text(1, table));
        self
    }

    /// A chain at a hook, which lets through what no rule stops.
    pub(super) fn chain(mut self, name: &str, hook: Hook) -> Self {
        let table = self.table;
        self.push(NEW_CHAIN, REQUEST | CREATE, |it| {
            it.text(1, table);
            it.text(3, name);
            it.nested(4, |hooked| {
                hooked.number(1, hook as u32);
                hooked.number(2, 0);
            });
            it.number(5, 1);
            it.text(7, "filter");
        });
        self
    }

    /// A rule at the end of a chain.
    pub(super) fn rule(mut self, chain: &str, steps: &[Step]) -> Self {
        let table = self.table;
        self.push(NEW_RULE, REQUEST | CREATE | APPEND, |it| {
            it.text(1, table);
            it.text(2, chain);
            it.nested(4, |list| {
                for step in steps {
                    list.step(step);
                }
            });
        });
        self
    }

    /// The bytes to send. The kernel answers each message that it refuses, and
    /// the last one before the end, which older kernels never answer.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let flags = self.last + 6..self.last + 8;
        if let Some([low, high]) = self.bytes.get_mut(flags) {
            let answered = u16::from_ne_bytes([*low, *high]) | ACK;
            [*low, *high] = answered.to_ne_bytes();
        }
        self.push(BATCH_END, REQUEST, |_| {});
        self.bytes
    }

    fn push(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Body)) {
        let is_mark = matches!(kind, BATCH_BEGIN | BATCH_END);
        self.last = self.bytes.len();
        let (family, resource) = if is_mark { (0, SUBSYSTEM) } else { (ARP, 0) };
        self.bytes
            .extend(message(kind, flags, self.number, family, resource, body));
        self.number += 1;
    }
}

/// Asks for all rules of a table.
pub(super) fn rules_request(table: &str) -> Vec<u8> {
    message(GET_RULE, REQUEST | DUMP, 0, ARP, 0, |it| it.text(1, table))
}

fn message(
    kind: u16,
    flags: u16,
    number: u32,
    family: u8,
    resource: u16,
    body: impl FnOnce(&mut Body),
) -> Vec<u8> {
    let mut content = Body::default();
    body(&mut content);
    let length = u32::try_from(HEADS + content.0.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADS + content.0.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(content.0);
    bytes
}

/// Attributes of a message, or of another attribute.
#[derive(Debug, Default)]
struct Body(Vec<u8>);

impl Body {
    fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
    }

    fn text(&mut self, kind: u16, value: &str) {
        let value: Vec<u8> = value.bytes().chain([0]).collect();
        self.bytes(kind, &value);
    }

    fn number(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    fn nested(&mut self, kind: u16, content: impl FnOnce(&mut Self)) {
        const NESTED: u16 = 0x8000;
        let mut inner = Self::default();
        content(&mut inner);
        self.bytes(kind | NESTED, &inner.0);
    }

    fn expression(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.nested(1, |element| {
            element.text(1, name);
            element.nested(2, content);
        });
    }

    fn step(&mut self, step: &Step) {
        const ARRIVED_BY: u32 = 4;
        const LEAVES_BY: u32 = 5;
        match step {
            Step::Matches(offset, value) => {
                self.expression("payload", |it| {
                    it.number(1, REGISTER);
                    it.place(*offset, value);
                });
                self.compare(value, true);
            }
            Step::ArrivedBy(index, is_so) => self.meta(ARRIVED_BY, *index, *is_so),
            Step::LeavesBy(index) => self.meta(LEAVES_BY, *index, true),
            Step::Replace(offset, value) => {
                self.expression("immediate", |it| {
                    it.number(1, REGISTER);
                    it.nested(2, |data| data.bytes(1, value));
                });
                self.expression("payload", |it| {
                    it.place(*offset, value);
                    it.number(5, REGISTER);
                    it.number(6, 0);
                    it.number(7, 0);
                });
            }
            Step::Drop => self.verdict(0),
            Step::Accept => self.verdict(1),
        }
    }

    /// Which bytes of the message: after the link's head.
    fn place(&mut self, offset: u32, value: &[u8]) {
        self.number(2, 1);
        self.number(3, offset);
        self.number(4, u32::try_from(value.len()).unwrap_or(u32::MAX));
    }

    /// Numbers of interfaces are in the machine's byte order.
    fn meta(&mut self, key: u32, index: u32, is_so: bool) {
        self.expression("meta", |it| {
            it.number(1, REGISTER);
            it.number(2, key);
        });
        self.compare(&index.to_ne_bytes(), is_so);
    }

    fn compare(&mut self, value: &[u8], is_equal: bool) {
        self.expression("cmp", |it| {
            it.number(1, REGISTER);
            it.number(2, u32::from(!is_equal));
            it.nested(3, |data| data.bytes(1, value));
        });
    }

    fn verdict(&mut self, code: u32) {
        self.expression("immediate", |it| {
            it.number(1, 0);
            it.nested(2, |data| data.nested(2, |verdict| verdict.number(1, code)));
        });
    }
}

/// The register that values go through.
const REGISTER: u32 = 1;

/// What a datagram from the kernel says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Rules that it lists.
    pub(super) rules: usize,
    /// The errno, or 0, when it is the end.
    pub(super) end: Option<i32>,
}

impl Answer {
    /// Reads a datagram. An error counts more than success, the first most: the
    /// kernel says what is wrong with each message of a batch.
    pub(super) fn parse(mut datagram: &[u8]) -> Self {
        let mut answer = Self::default();
        while let Some((head, _)) = datagram.split_first_chunk::<HEAD>() {
            let [a, b, c, d, low, high, ..] = *head;
            let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let code = datagram.get(HEAD..).and_then(|body| body.first_chunk());
            let code = code.map_or(0, |bytes| i32::from_ne_bytes(*bytes));
            match u16::from_ne_bytes([low, high]) {
                NEW_RULE => answer.rules += 1,
                DONE | ERROR if answer.end.unwrap_or(0) == 0 => {
                    answer.end = Some(code.saturating_neg().max(0));
                }
                _ => {}
            }
            let aligned = length.max(HEAD).saturating_add(3) & !3;
            datagram = datagram.get(aligned..).unwrap_or_default();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEAD + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes
    }

    fn code(number: i32) -> Vec<u8> {
        reply(ERROR, &number.to_ne_bytes())
    }

    #[test]
    fn answers_are_read_totally() {
        let answer = |rules, end| Answer { rules, end };
        let rows = [
            (Vec::new(), answer(0, None)),
            (vec![0; 40], answer(0, None)),
            (vec![0xff; 40], answer(0, None)),
            (code(0), answer(0, Some(0))),
            (code(-1), answer(0, Some(1))),
            (code(i32::MIN), answer(0, Some(i32::MAX))),
            ([code(-2), code(0)].concat(), answer(0, Some(2))),
            ([code(0), code(-2)].concat(), answer(0, Some(2))),
            (code(-1)[..18].to_vec(), answer(0, Some(0))),
            (
                [reply(NEW_RULE, &[0; 8]), reply(DONE, &[0; 4])].concat(),
                answer(1, Some(0)),
            ),
            (reply(NEW_TABLE, &[0; 4]), answer(0, None)),
        ];
        for (datagram, expected) in rows {
            assert_eq!(Answer::parse(&datagram), expected, "{datagram:?}");
        }
    }

    #[test]
    fn messages_are_whole_and_aligned() {
        let steps = [
            Step::ArrivedBy(7, false),
            Step::Matches(24, vec![192, 0, 2, 10]),
            Step::Replace(14, vec![192, 0, 2, 1]),
            Step::Drop,
        ];
        let batch = Batch::new("tidegate").empty_table();
        let bytes = batch
            .chain("input", Hook::Input)
            .rule("input", &steps)
            .finish();
        let mut rest = bytes.as_slice();
        let mut kinds = Vec::new();
        while let Some((head, _)) = rest.split_first_chunk::<HEAD>() {
            let length = u32::from_ne_bytes(head[..4].try_into().unwrap());
            kinds.push(u16::from_ne_bytes(head[4..6].try_into().unwrap()));
            let number = u32::from_ne_bytes(head[8..12].try_into().unwrap());
            assert_eq!(number as usize, kinds.len() - 1);
            rest = &rest[length as usize..];
        }
        assert!(rest.is_empty());
        let table = [NEW_TABLE, DELETE_TABLE, NEW_TABLE];
        let expected = [
            &[BATCH_BEGIN][..],
            &table,
            &[NEW_CHAIN, NEW_RULE, BATCH_END],
        ]
        .concat();
        assert_eq!(kinds, expected);
    }
}
