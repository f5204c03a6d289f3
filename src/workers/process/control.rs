//! Our end of a zygote's control socket: whole packets both ways, descriptors with ours.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The largest packet: what is longer is cut, and then is no JSON.
pub(super) const MOST: usize = 32 << 10;
/// Descriptors that one packet may carry.
pub(super) const FDS: usize = 5;

/// One end of a socket that keeps packets apart.
#[derive(Debug)]
pub(super) struct Control(AsyncFd<OwnedFd>);

impl Control {
    /// Our end, and the other for a child. On the runtime that will use it.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&ours, true)?;
        Ok((Self(AsyncFd::new(ours)?), theirs))
    }

    /// Sends one packet. Given up, it was either sent or not.
    pub(super) async fn send(&self, packet: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
        let send = |socket: &OwnedFd| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
                return Err(io::Error::other("too many descriptors for one packet"));
            }
            rustix::net::sendmsg(socket, &[IoSlice::new(packet)], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The length of the next packet, which is then in `buffer`; 0 once the other end is closed.
    pub(super) async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let receive = |socket: &OwnedFd| {
            let (length, _) = rustix::net::recv(socket, &mut *buffer, RecvFlags::empty())?;
            Ok(length)
        };
        self.0.async_io(Interest::READABLE, receive).await
    }
}
