//! Messages between front and worker, in frames of `ops::ipc`.
//!
//! Requests travel in batches and replies come out of order, so that a busy front pays for one system call many
//! times over. Both ends are the same binary; the version is checked all the same.

use serde::{Deserialize, Serialize};

use super::{HsmFault, KeyInfo, Op, Reply, TokenInfo};
pub use crate::ops::ipc::{read_frame, write_frame};

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
    Batch(Vec<Request>),
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
