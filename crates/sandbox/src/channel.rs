//! Typed messages between a caller and the processes of this crate: a socket, JSON, a length before each.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest message: a specification with a large environment.
const LONGEST: u32 = 64 * 1024 * 1024;

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), Self(theirs)))
    }

    /// The end that the parent left open.
    pub(crate) fn from_fd(fd: OwnedFd) -> Self {
        Self(UnixStream::from(fd))
    }

    /// The end itself.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.0.into()
    }

    /// Waits for an answer this long at most.
    pub(crate) fn wait_at_most(&self, time: Duration) -> io::Result<()> {
        self.0.set_read_timeout(Some(time))
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let len = u32::try_from(body.len()).map_err(|_| io::Error::other("the message is too long"))?;
        let mut framed = len.to_le_bytes().to_vec();
        framed.extend(body);
        (&self.0).write_all(&framed)
    }

    /// Receives a message; none if the other end is closed.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut len = [0; 4];
        match (&self.0).read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
            other => other?,
        }
        let len = u32::from_le_bytes(len);
        if len > LONGEST {
            return Err(io::Error::other("the message is too long"));
        }
        let mut body = vec![0; len as usize];
        (&self.0).read_exact(&mut body)?;
        Ok(Some(serde_json::from_slice(&body)?))
    }

    /// Sends a descriptor, with one byte to carry it.
    pub(crate) fn send_fd(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        ancillary.push(SendAncillaryMessage::ScmRights(&fds));
        rustix::net::sendmsg(&self.0, &[io::IoSlice::new(b"f")], &mut ancillary, SendFlags::empty())?;
        Ok(())
    }

    /// Receives what [`Channel::send_fd`] sent.
    pub(crate) fn receive_fd(&self) -> io::Result<OwnedFd> {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let mut buffers = [io::IoSliceMut::new(&mut byte)];
        rustix::net::recvmsg(&self.0, &mut buffers, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(mut fds) = message
                && let Some(fd) = fds.next()
            {
                return Ok(fd);
            }
        }
        Err(io::Error::other("no descriptor came"))
    }

    /// Sends one byte that stands for a signal.
    pub(crate) fn send_signal(&self, signal: u8) -> io::Result<()> {
        (&self.0).write_all(&[signal])
    }

    /// The signal that was asked for; none if the other end is closed.
    pub(crate) fn receive_signal(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        match (&self.0).read(&mut byte) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(byte[0])),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says that nothing more will be sent.
    pub(crate) fn hang_up(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Write);
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
