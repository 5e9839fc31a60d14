//! What members send each other, as bytes.
//!
//! A frame is its length (four bytes, big endian) and its payload: one byte that
//! says what it is, then fields of fixed order. Pure: no socket, no clock. What is
//! read is hostile until [`Frame::parse`] has taken it; a payload with too little or
//! too much in it is no frame.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;

use super::fields::{Reader, Writer};

/// The protocol's version; both ends have to speak the same.
pub(super) const VERSION: u8 = 1;

/// The largest body of a fact, a question or an answer.
pub(super) const LARGEST_BODY: usize = 8 << 20;

/// The largest payload: a body and the fields around it.
pub(super) const LARGEST_FRAME: usize = LARGEST_BODY + 4096;

/// Versions and lives beyond it are refused, so that there is always a higher one.
pub(super) const HIGHEST_VERSION: u64 = u64::MAX >> 2;

/// Who a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Random for each process, so that two of one name are told apart.
    pub(super) instance: u64,
    /// The lowest version of this life of the member.
    pub(super) life: u64,
    /// The port that it listens on.
    pub(super) port: u16,
    /// Random for each connection.
    pub(super) nonce: u64,
}

/// Why a member wants no connection with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// They are the same one.
    Itself,
    /// Another live member has this name.
    NameTaken,
    /// There is a connection between the two already.
    Linked,
    /// There are too many members.
    Full,
}

/// What one member knows of another's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// The member.
    pub(super) member: Arc<str>,
    /// The lowest version of its present life.
    pub(super) life: u64,
    /// Whether whoever says this is connected with it.
    pub(super) is_linked: bool,
    /// Whether it has left on purpose.
    pub(super) has_left: bool,
    /// How long it has not been heard of; nothing while it is live.
    pub(super) silence: Duration,
    /// The versions of its words by topic.
    pub(super) words: Vec<(Arc<str>, u64)>,
}

/// A word of a member on a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    /// Whose.
    pub(super) member: Arc<str>,
    /// About what.
    pub(super) topic: Arc<str>,
    /// Higher is newer.
    pub(super) version: u64,
    /// Empty if it was taken back.
    pub(super) body: Bytes,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The first of each end.
    Hello(Hello),
    /// The second: come in. The other's present life has to be above `floor`.
    Welcome {
        /// The highest version that is known of an earlier life of the other.
        floor: u64,
    },
    /// The second, otherwise, and the last.
    Refused(Refusal),
    /// I am here.
    Ping,
    /// I leave and shall not be missed.
    Bye,
    /// What a member says.
    Word(Word),
    /// What I know of what everybody says.
    Digest(Vec<Summary>),
    /// Words that I lack, by member and topic.
    Want(Vec<(Arc<str>, Arc<str>)>),
    /// A word, or a newer one, is known.
    Heard {
        /// Whose word.
        member: Arc<str>,
        /// About what.
        topic: Arc<str>,
        /// How new.
        version: u64,
        /// To whom it is known.
        by: Arc<str>,
    },
    /// A question.
    Ask {
        /// Goes back with the answer.
        id: u64,
        /// Which question.
        question: Arc<str>,
        /// How long somebody waits for the answer.
        patience: Duration,
        /// What it is about.
        body: Bytes,
    },
    /// Its answer; empty if there is none.
    Answer {
        /// The question's.
        id: u64,
        /// The answer.
        body: Bytes,
    },
}

/// The bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    /// Nothing of ours, cut short, or with something behind it.
    #[error("the bytes are not a frame")]
    Frame,
    /// Another version of the protocol.
    #[error("the other end speaks version {0} of the protocol, this one {VERSION}")]
    Version(u8),
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const REFUSED: u8 = 3;
const PING: u8 = 4;
const BYE: u8 = 5;
const WORD: u8 = 6;
const DIGEST: u8 = 7;
const WANT: u8 = 8;
const HEARD: u8 = 9;
const ASK: u8 = 10;
const ANSWER: u8 = 11;

impl Frame {
    /// The frame with its length in front, but for the body, which follows it.
    /// Bodies are not copied: the same one goes to all members.
    pub(super) fn encode(&self) -> (Bytes, Bytes) {
        let mut out = Writer::new();
        let body = self.put(&mut out);
        (out.finish(body.len()), body)
    }

    fn put(&self, out: &mut Writer) -> Bytes {
        match self {
            Self::Hello(hello) => hello.put(out),
            Self::Welcome { floor } => out.kind(WELCOME).number(*floor),
            Self::Refused(refusal) => out.kind(REFUSED).byte(refusal.code()),
            Self::Ping => out.kind(PING),
            Self::Bye => out.kind(BYE),
            Self::Word(word) => {
                let out = out.kind(WORD).name(&word.member).name(&word.topic);
                out.number(word.version);
                return word.body.clone();
            }
            Self::Digest(summaries) => {
                let out = out.kind(DIGEST).count(summaries.len());
                summaries.iter().for_each(|summary| summary.put(out));
                out
            }
            Self::Want(words) => {
                let out = out.kind(WANT).count(words.len());
                for (member, topic) in words {
                    out.name(member).name(topic);
                }
                out
            }
            Self::Heard {
                member,
                topic,
                version,
                by,
            } => out
                .kind(HEARD)
                .name(member)
                .name(topic)
                .number(*version)
                .name(by),
            Self::Ask {
                id,
                question,
                patience,
                body,
            } => {
                let out = out.kind(ASK).number(*id).name(question);
                out.number(u64::try_from(patience.as_millis()).unwrap_or(u64::MAX));
                return body.clone();
            }
            Self::Answer { id, body } => {
                out.kind(ANSWER).number(*id);
                return body.clone();
            }
        };
        Bytes::new()
    }

    /// Takes a payload for what it is.
    pub(super) fn parse(payload: &Bytes) -> Result<Self, Malformed> {
        let mut input = Reader(payload.clone());
        let frame = Self::take(&mut input)?;
        if input.0.is_empty() {
            Ok(frame)
        } else {
            Err(Malformed::Frame)
        }
    }

    fn take(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(match input.byte()? {
            HELLO => Self::Hello(Hello::take(input)?),
            WELCOME => Self::Welcome {
                floor: input.version()?,
            },
            REFUSED => Self::Refused(Refusal::take(input)?),
            PING => Self::Ping,
            BYE => Self::Bye,
            WORD => Self::Word(Word {
                member: input.name()?,
                topic: input.name()?,
                version: input.version()?,
                body: input.rest()?,
            }),
            DIGEST => Self::Digest(input.list(Summary::take)?),
            WANT => Self::Want(input.list(|input| Ok((input.name()?, input.name()?)))?),
            HEARD => Self::Heard {
                member: input.name()?,
                topic: input.name()?,
                version: input.version()?,
                by: input.name()?,
            },
            ASK => Self::Ask {
                id: input.number()?,
                question: input.name()?,
                patience: Duration::from_millis(input.number()?),
                body: input.rest()?,
            },
            ANSWER => Self::Answer {
                id: input.number()?,
                body: input.rest()?,
            },
            _ => return Err(Malformed::Frame),
        })
    }
}

impl Hello {
    fn put<'a>(&self, out: &'a mut Writer) -> &'a mut Writer {
        out.kind(HELLO).byte(VERSION).name(&self.name);
        out.number(self.instance).number(self.life);
        out.number(u64::from(self.port)).number(self.nonce)
    }

    fn take(input: &mut Reader) -> Result<Self, Malformed> {
        match input.byte()? {
            VERSION => Ok(Self {
                name: input.name()?,
                instance: input.number()?,
                life: input.version()?,
                port: u16::try_from(input.number()?).map_err(|_| Malformed::Frame)?,
                nonce: input.number()?,
            }),
            other => Err(Malformed::Version(other)),
        }
    }
}

impl Summary {
    fn put(&self, out: &mut Writer) {
        out.name(&self.member).number(self.life);
        out.byte(u8::from(self.is_linked));
        out.byte(u8::from(self.has_left));
        out.number(u64::try_from(self.silence.as_millis()).unwrap_or(u64::MAX));
        out.count(self.words.len());
        for (topic, version) in &self.words {
            out.name(topic).number(*version);
        }
    }

    fn take(input: &mut Reader) -> Result<Self, Malformed> {
        Ok(Self {
            member: input.name()?,
            life: input.version()?,
            is_linked: input.byte()? != 0,
            has_left: input.byte()? != 0,
            silence: Duration::from_millis(input.number()?),
            words: input.list(|input| Ok((input.name()?, input.version()?)))?,
        })
    }
}

impl Refusal {
    fn code(self) -> u8 {
        match self {
            Self::Itself => 1,
            Self::NameTaken => 2,
            Self::Linked => 3,
            Self::Full => 4,
        }
    }

    fn take(input: &mut Reader) -> Result<Self, Malformed> {
        let all = [Self::Itself, Self::NameTaken, Self::Linked, Self::Full];
        let code = input.byte()?;
        let found = all.into_iter().find(|refusal| refusal.code() == code);
        found.ok_or(Malformed::Frame)
    }
}

#[cfg(test)]
mod tests;
