//! Packet sockets between the supervisor and its children: whole messages, and descriptors with them.
//!
//! `SOCK_SEQPACKET` keeps message boundaries, so a secret can travel as a packet of its own without being parsed,
//! and a descriptor stays with its message (SCM_RIGHTS, unix(7)).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use zeroize::Zeroizing;

/// Largest packet. Settings, ports and failures are all far smaller.
pub const PACKET_BYTES_MAX: usize = 65_536;

/// One end of a packet socket. Sending and receiving take `&self`: the kernel keeps packets apart.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// One packet. Its buffer is wiped when dropped, since it may hold a PIN.
#[derive(Debug)]
pub struct Packet {
    pub bytes: Zeroizing<Vec<u8>>,
    pub descriptor: Option<OwnedFd>,
}

impl Channel {
    /// Two connected ends, both closed on exec.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that a child got as its standard input.
    pub fn from_stdin() -> io::Result<Self> {
        Ok(Self(io::stdin().as_fd().try_clone_to_owned()?))
    }

    /// Sends one packet, at once or not at all: a full socket is `WouldBlock`.
    pub fn send(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        if bytes.is_empty() || bytes.len() > PACKET_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet must have 1 to 65,536 bytes"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("the descriptor did not fit the packet"));
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = rustix::net::sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, flags)?;
        if sent != bytes.len() {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        Ok(())
    }

    /// Waits for a packet; `None` when the other end is gone.
    pub fn receive(&self) -> io::Result<Option<Packet>> {
        loop {
            match self.receive_with(RecvFlags::empty()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Takes a packet that is already there; `WouldBlock` when there is none.
    pub fn try_receive(&self) -> io::Result<Option<Packet>> {
        self.receive_with(RecvFlags::DONTWAIT)
    }

    /// Ends both directions: a blocked `receive` on either end answers `None`.
    pub fn shut_down(&self) {
        // Already closed by the other side is what we want.
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }

    fn receive_with(&self, flags: RecvFlags) -> io::Result<Option<Packet>> {
        let mut bytes = Zeroizing::new(vec![0; PACKET_BYTES_MAX]);
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::net::recvmsg(
            &self.0,
            &mut [IoSliceMut::new(&mut bytes)],
            &mut ancillary,
            flags | RecvFlags::CMSG_CLOEXEC,
        )?;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        if received.bytes == 0 {
            return Ok(None);
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet was cut off"));
        }
        bytes.truncate(received.bytes);
        Ok(Some(Packet { bytes, descriptor }))
    }
}

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Self {
        Self(descriptor)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn packets_keep_their_boundaries_and_carry_a_descriptor() {
        let (ours, theirs) = Channel::pair().unwrap();
        let theirs = Channel::from(theirs);
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        rustix::io::write(&writer, b"through").unwrap();
        drop(writer);
        ours.send(b"first", None).unwrap();
        ours.send(b"second", Some(reader.as_fd())).unwrap();
        drop(reader);
        let first = theirs.receive().unwrap().unwrap();
        assert_eq!((first.bytes.as_slice(), first.descriptor.is_none()), (b"first".as_slice(), true));
        let second = theirs.receive().unwrap().unwrap();
        let mut text = String::new();
        std::fs::File::from(second.descriptor.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((second.bytes.as_slice(), text.as_str()), (b"second".as_slice(), "through"));
    }

    #[test]
    fn the_end_of_a_peer_is_seen_and_oversized_packets_are_refused() {
        let (ours, theirs) = Channel::pair().unwrap();
        assert_eq!(ours.try_receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert!(ours.send(&[], None).is_err());
        assert!(ours.send(&vec![0; PACKET_BYTES_MAX + 1], None).is_err());
        drop(theirs);
        assert!(ours.receive().unwrap().is_none());
        assert!(ours.send(b"late", None).is_err());
    }
}
