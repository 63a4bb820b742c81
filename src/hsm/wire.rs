//! Messages between front and worker, in frames of `ops::ipc`.
//!
//! Requests travel in batches and replies come out of order, so that a busy front pays for one system call many
//! times over. Both ends are the same binary; the version is checked all the same.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{HsmFault, KeyInfo, Op, Reply, TokenInfo};
pub use crate::ops::ipc::{read_frame, write_frame};

/// Requests of one batch. A request is a few bytes in a frame and far more in memory, so the frame's length alone
/// bounds nothing.
pub const BATCH_MAX: usize = 1024;

/// Worker → front.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// First frame of a connection.
    Hello(Box<Hello>),
    Replies {
        /// Calls that the worker works on at once, from now on.
        hands: u32,
        replies: Vec<Response>,
    },
}

/// Whom the front is talking to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub token: TokenInfo,
    pub identity: KeyInfo,
    /// Calls that the worker works on at once.
    pub hands: u32,
}

/// Front → worker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// At most [`BATCH_MAX`] requests.
    Batch(#[serde(deserialize_with = "bounded")] Vec<Request>),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub id: u64,
    /// Time left when it was sent; a request that waited longer is not started.
    pub deadline_ms: u64,
    pub op: Op,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    pub id: u64,
    pub outcome: Result<Reply, HsmFault>,
}

fn bounded<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Request>, D::Error> {
    struct Requests;
    impl<'de> Visitor<'de> for Requests {
        type Value = Vec<Request>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "at most {BATCH_MAX} requests")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Request>, A::Error> {
            let mut requests = Vec::new();
            while let Some(request) = items.next_element()? {
                if requests.len() == BATCH_MAX {
                    return Err(serde::de::Error::invalid_length(BATCH_MAX + 1, &self));
                }
                requests.push(request);
            }
            Ok(requests)
        }
    }
    deserializer.deserialize_seq(Requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed() -> Vec<u8> {
        let mut bytes = Vec::new();
        let request = Request { id: 7, deadline_ms: 100, op: Op::Describe };
        write_frame(&mut bytes, &ToWorker::Batch(vec![request])).unwrap();
        bytes
    }

    #[test]
    fn a_frame_reads_back() {
        let bytes = framed();
        let mut stream = bytes.as_slice();
        let ToWorker::Batch(requests) = read_frame(&mut stream).unwrap().unwrap();
        assert_eq!((requests[0].id, &requests[0].op), (7, &Op::Describe));
        assert!(read_frame::<ToWorker>(&mut stream).unwrap().is_none());
    }

    #[test]
    fn a_batch_has_a_limit_whatever_its_length() {
        let batch = |count: usize| {
            let request = |id| Request { id, deadline_ms: 1, op: Op::Describe };
            let mut bytes = Vec::new();
            write_frame(&mut bytes, &ToWorker::Batch((0..count as u64).map(request).collect())).unwrap();
            read_frame::<ToWorker>(&mut bytes.as_slice())
        };
        assert!(batch(BATCH_MAX).is_ok());
        assert!(batch(BATCH_MAX + 1).is_err());
    }

    #[test]
    fn frames_that_are_cut_padded_oversized_or_of_another_version_are_refused() {
        let good = framed();
        let mut other_version = good.clone();
        other_version[5] = 0xff;
        let mut padded = good.clone();
        padded.push(0);
        padded[3] += 1;
        let mut oversized = good.clone();
        oversized[0] = 2;
        let mut too_short = good.clone();
        too_short[..4].copy_from_slice(&1_u32.to_be_bytes());
        let cut = good[..good.len() - 1].to_vec();
        for bad in [other_version, padded, oversized, too_short, cut, good[..3].to_vec()] {
            assert!(read_frame::<ToWorker>(&mut bad.as_slice()).is_err());
        }
    }
}
