//! Our end of a zygote's control socket: whole packets both ways, descriptors with ours.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// The largest packet: what is longer is cut, and then is no JSON.
pub(super) const MOST: usize = 32 << 10;
/// Descriptors that one packet may carry.
const FDS: usize = 5;

/// One end of a socket that keeps packets apart and tells when its other end is closed (`SOCK_SEQPACKET`, which is
/// received from and waited for like one of datagrams).
#[derive(Debug)]
pub(super) struct Control(UnixDatagram);

impl Control {
    /// Our end, and the other for a child. On the runtime that will use it.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let ours = StdDatagram::from(ours);
        ours.set_nonblocking(true)?;
        Ok((Self(UnixDatagram::from_std(ours)?), theirs))
    }

    /// Sends one packet. Given up, it was either sent or not.
    pub(super) async fn send(&self, packet: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let send = || {
            let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::other("too many descriptors for one packet"));
            }
            rustix::net::sendmsg(&self.0, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The length of the next packet, which is then in `buffer`; 0 once the other end is closed.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.recv(buffer).await
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

    use super::*;

    #[tokio::test]
    async fn packets_stay_whole_descriptors_come_with_theirs_and_an_end_is_an_end() {
        let (control, theirs) = Control::pair().unwrap();
        let (mut ours, given) = UnixStream::pair().unwrap();
        control.send(b"one", &[given.into()]).await.unwrap();
        control.send(b"two", &[]).await.unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 64];
        let mut slices = [io::IoSliceMut::new(&mut bytes)];
        let got =
            rustix::net::recvmsg(&theirs, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
        assert_eq!(&bytes[..got.bytes], b"one");
        let fds = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<OwnedFd>>()),
            _ => None,
        });
        let (_, length) = rustix::net::recv(&theirs, &mut [0u8; 64], RecvFlags::empty()).unwrap();
        assert_eq!(length, 3);
        let there = UnixStream::from(fds.unwrap().pop().unwrap());
        rustix::net::send(&there, b"x", SendFlags::empty()).unwrap();
        let mut byte = [0];
        ours.read_exact(&mut byte).unwrap();
        for word in [b"a", b"b"] {
            rustix::net::send(&theirs, word, SendFlags::empty()).unwrap();
        }
        let mut bytes = [0; 64];
        assert_eq!(control.receive(&mut bytes).await.unwrap(), 1);
        assert_eq!(control.receive(&mut bytes).await.unwrap(), 1);
        drop(theirs);
        assert_eq!(control.receive(&mut bytes).await.unwrap(), 0);
        assert!(control.send(b"x", &[]).await.is_err());
    }
}
