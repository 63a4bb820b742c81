//! Frames between processes of one installation: `u32 BE length | u16 BE version | postcard body`.
//!
//! Both ends are the same binary, so the version only has to catch a half-replaced installation. Frames may carry what is
//! sealed and opened: their bytes are wiped.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::Zeroizing;

use super::secret::Growing;

/// Changes whenever a frame's shape does.
const VERSION: u16 = 5;
/// Limit of version and body together; a full CRL fits. A length above it ends the connection before anything is
/// allocated.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// Writes one frame.
pub fn write_frame<T: Serialize>(stream: &mut impl Write, body: &T) -> io::Result<()> {
    stream.write_all(&frame(body)?)
}

/// One frame, as it is written. It grows without leaving copies of what it carries behind.
pub fn frame<T: Serialize>(body: &T) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut frame = Growing::default();
    frame.extend(&[0; 4]);
    frame.extend(&VERSION.to_be_bytes());
    let mut frame = postcard::to_extend(body, frame).map_err(io::Error::other)?.into_secret().0;
    let length = u32::try_from(frame.len() - 4).ok().filter(|length| *length as usize <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the frame is too long"))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

/// Reads one frame; `None` when the other end closed between frames.
pub fn read_frame<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut length[1..])?,
    }
    let mut frame = Zeroizing::new(vec![0; bounded(length, FRAME_BYTES_MAX)?]);
    stream.read_exact(&mut frame)?;
    body(&frame).map(Some)
}

/// Reads one frame of at most `bytes_max` bytes, waiting without a thread; `None` when the other end closed between
/// frames. Not to be dropped half-way: what was read of a frame is lost.
pub async fn next_frame<T: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read(&mut length[..1]).await? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut length[1..]).await?,
    };
    let mut frame = Zeroizing::new(vec![0; bounded(length, bytes_max)?]);
    stream.read_exact(&mut frame).await?;
    body(&frame).map(Some)
}

fn bounded(length: [u8; 4], bytes_max: usize) -> io::Result<usize> {
    let length = u32::from_be_bytes(length) as usize;
    if (2..=bytes_max).contains(&length) {
        return Ok(length);
    }
    Err(invalid(format!("a frame of {length} bytes is outside the limits")))
}

fn body<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    let version = u16::from_be_bytes([frame[0], frame[1]]);
    if version != VERSION {
        return Err(invalid(format!("frame version {version}, expected {VERSION}")));
    }
    let (body, rest) = postcard::take_from_bytes(&frame[2..]).map_err(|error| invalid(error.to_string()))?;
    if !rest.is_empty() {
        return Err(invalid("a frame had bytes after its body".into()));
    }
    Ok(body)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
    enum Order {
        Go,
    }

    #[test]
    fn frames_that_are_not_ours_are_refused() {
        let mut good = Vec::new();
        write_frame(&mut good, &(1_u64, Some(Order::Go))).unwrap();
        let read: Option<(u64, Option<Order>)> = read_frame(&mut good.as_slice()).unwrap();
        assert_eq!(read, Some((1, Some(Order::Go))));

        let with = |at: usize, byte: u8| {
            let mut bad = good.clone();
            bad[at] = byte;
            bad
        };
        let longer = [&(good.len() as u32 - 3).to_be_bytes()[..], &good[4..], &[0]].concat();
        let table = [
            ("length zero", vec![0, 0, 0, 0]),
            ("length beyond the limit", vec![0xff, 0xff, 0xff, 0xff]),
            ("other version", with(5, 9)),
            ("unknown operation", with(good.len() - 1, 99)),
            ("cut short", good[..good.len() - 1].to_vec()),
            ("bytes after the body", longer),
        ];
        for (what, bytes) in table {
            assert!(read_frame::<(u64, Option<Order>)>(&mut bytes.as_slice()).is_err(), "{what}");
        }
        assert!(read_frame::<(u64, Option<Order>)>(&mut [].as_slice()).unwrap().is_none());
    }
}
