//! The process that holds the ports of a unit: what it is asked, and when it ends.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::process::Resource;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::route::{Busy, PATIENCE, Route, Target};
use super::{Answer, Lead, Order, datagrams, streams, with_short_path};
use crate::channel::Channel;
use crate::health::{self, Status};
use crate::spec::{Port, Protocol};
use crate::syscalls::{self, Fork};
use crate::unit::{self, Running};
use crate::{privileges, reexec};

/// How long what is under way has to end before a sandbox is replaced.
const DRAINS: Duration = Duration::from_secs(2);
/// How often is looked whether it has, and whether a sandbox is well.
const LOOK: Duration = Duration::from_millis(5);
/// The memory that a thread starts with; the kernel gives only what is used.
const STACK: usize = 128 * 1024;

/// What the hidden command `__ports` runs. Never returns.
pub fn main_ports() -> ! {
    let code = match reexec::parent_channel() {
        Ok(channel) => i32::from(run(channel).is_err()),
        Err(_) => 2,
    };
    std::process::exit(code)
}

fn run(first: Channel) -> io::Result<()> {
    let socket = std::env::args_os().nth(3).map(PathBuf::from).ok_or(io::ErrorKind::InvalidInput)?;
    // It lives on without a terminal, and without a parent that would have to reap it.
    let _ = rustix::process::setsid();
    if let Fork::Parent(_) = syscalls::fork()? {
        return Ok(());
    }
    let listener = with_short_path(&socket, UnixListener::bind)?;
    with_short_path(&socket, |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))?;
    // Others may have no way to its folder by then.
    let folder = File::open(socket.parent().unwrap_or(Path::new("/")))?;
    // What it is called where somebody asks who has a port.
    let _ = rustix::thread::set_name(c"setpoint-ports");
    // Who gives it ports has taken them.
    privileges::give_up();
    take_descriptors();
    let (orders, heard) = mpsc::unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    spawn({
        let orders = orders.clone();
        move || converse(0, &first, &orders)
    })?;
    let holder = Holder::new(orders.clone());
    spawn(move || accept(&listener, &orders))?;
    runtime.block_on(holder.work(heard));
    // Nobody finds it any more; what is under way ends with the process.
    if let Some(name) = socket.file_name() {
        let _ = rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty());
    }
    std::process::exit(0)
}

/// It needs as many descriptors as may be had.
fn take_descriptors() {
    let most = rustix::process::getrlimit(Resource::Nofile).maximum;
    let all = rustix::process::Rlimit { current: most, maximum: most };
    let _ = rustix::process::setrlimit(Resource::Nofile, all);
}

/// What happens: what comes over the socket, each line by its number, and the end of a sandbox.
enum Heard {
    Order { line: u64, order: Order, sockets: Vec<OwnedFd>, answer: oneshot::Sender<Answer> },
    HungUp { line: u64 },
    Ended(Running),
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().stack_size(STACK).spawn(work).map(drop)
}

fn accept(listener: &UnixListener, orders: &mpsc::UnboundedSender<Heard>) {
    for (line, stream) in (1..).zip(listener.incoming()) {
        let Ok(stream) = stream else {
            std::thread::sleep(LOOK);
            continue;
        };
        let orders = orders.clone();
        // Without a thread for it, it is hung up.
        let _ = spawn(move || converse(line, &Channel::from_fd(stream.into()), &orders));
    }
}

/// Hears one who asks, until he hangs up.
fn converse(line: u64, channel: &Channel, orders: &mpsc::UnboundedSender<Heard>) {
    while let Ok(Some(order)) = channel.receive::<Order>() {
        let sent = match &order {
            Order::Take { new, .. } => new.len(),
            Order::Lead(_) => 1,
            _ => 0,
        };
        let Ok(sockets) = (0..sent).map(|_| channel.receive_fd()).collect() else { break };
        let (answer, answered) = oneshot::channel();
        let _ = orders.send(Heard::Order { line, order, sockets, answer });
        let Ok(answer) = answered.blocking_recv() else { break };
        if channel.send(&answer).is_err() {
            break;
        }
    }
    let _ = orders.send(Heard::HungUp { line });
}

/// A port that is held.
struct Held {
    port: Port,
    socket: Socket,
    route: Arc<Route>,
    target: Option<Arc<Target>>,
    serves: JoinHandle<()>,
}

#[derive(Clone)]
enum Socket {
    Stream(Arc<tokio::net::TcpListener>),
    Datagram(Arc<tokio::net::UdpSocket>),
}

/// A sandbox that ports lead to, or led to.
struct Instance {
    running: Running,
    comes_back: bool,
    /// Whether it answers in place of the unit's own: what is done to that one is not meant for the ports.
    stands_in: bool,
    gone: watch::Sender<bool>,
    /// What it has under way.
    busy: Busy,
    /// Where ports led in it, from when they lead to another one.
    targets: Vec<Arc<Target>>,
    /// Opens the ports once it is well.
    opens: Option<JoinHandle<()>>,
}

struct Holder {
    ports: Vec<Held>,
    instance: Option<Instance>,
    /// Those that ports led to before, which run on: what they have taken they may finish.
    leaving: Vec<Instance>,
    /// The lines of those who have something in mind with the ports.
    claims: BTreeSet<u64>,
    /// Whether what comes waits although there is a sandbox.
    is_held: bool,
    /// Until when another sandbox is waited for.
    waits_until: Option<Instant>,
    happens: mpsc::UnboundedSender<Heard>,
}

impl Holder {
    fn new(happens: mpsc::UnboundedSender<Heard>) -> Self {
        Self {
            ports: Vec::new(),
            instance: None,
            leaving: Vec::new(),
            claims: BTreeSet::new(),
            is_held: false,
            waits_until: None,
            happens,
        }
    }

    /// Does what it is asked, until there is nothing to hold ports for.
    async fn work(mut self, mut heard: mpsc::UnboundedReceiver<Heard>) {
        loop {
            let heard = tokio::select! {
                heard = heard.recv() => heard,
                () = until(self.waits_until) => {
                    self.waits_until = None;
                    None
                }
            };
            match heard {
                Some(Heard::Order { line, order, sockets, answer }) => {
                    match self.hear(line, order, sockets, answer) {
                        Ok(true) => return,
                        _ => continue,
                    }
                }
                Some(Heard::HungUp { line }) => drop(self.claims.remove(&line)),
                Some(Heard::Ended(running)) => self.ended(&running),
                None => {}
            }
            if self.is_left() {
                return;
            }
        }
    }

    /// Whether it is to end. An order that cannot be carried out is not answered, which hangs up.
    fn hear(
        &mut self,
        line: u64,
        order: Order,
        sockets: Vec<OwnedFd>,
        answer: oneshot::Sender<Answer>,
    ) -> io::Result<bool> {
        let mut said = Answer::Done;
        match order {
            Order::List => said = Answer::Ports(self.ports.iter().map(|held| held.port.clone()).collect()),
            Order::Keep(ports) => self.keep(&ports),
            Order::Take { ports, new } => {
                self.claims.insert(line);
                self.take(ports, new, sockets)?;
            }
            Order::Lead(lead) => {
                let folder = sockets.into_iter().next().ok_or(io::ErrorKind::InvalidInput)?;
                self.lead(lead, folder)?;
                self.claims.remove(&line);
                tokio::spawn(drained(self.left(), answer));
                return Ok(false);
            }
            Order::Hold => {
                self.claims.insert(line);
                let mut left = self.left();
                if !self.is_stood_in_for() {
                    self.hold();
                    left.extend(
                        self.instance.as_ref().map(|instance| (instance.busy.clone(), self.targets())),
                    );
                }
                tokio::spawn(drained(left, answer));
                return Ok(false);
            }
            Order::Close | Order::End if self.is_stood_in_for() => {}
            Order::Close if self.claims.is_empty() => self.keep(&[]),
            Order::End if self.claims.is_empty() => return Ok(true),
            Order::Close | Order::End => {}
        }
        let _ = answer.send(said);
        Ok(false)
    }

    /// Whether ports lead to another sandbox than the unit's own.
    fn is_stood_in_for(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| instance.stands_in)
    }

    fn targets(&self) -> Vec<Arc<Target>> {
        self.ports.iter().filter_map(|held| held.target.clone()).collect()
    }

    /// What those have under way that ports led to before, and where they led.
    fn left(&self) -> Vec<(Busy, Vec<Arc<Target>>)> {
        self.leaving.iter().map(|instance| (instance.busy.clone(), instance.targets.clone())).collect()
    }

    /// Lets go of all ports but these. What came to the others goes on.
    fn keep(&mut self, ports: &[Port]) {
        self.ports.retain(|held| {
            let stays = ports.iter().any(|port| port.is_same_socket(&held.port));
            if !stays {
                held.serves.abort();
            }
            stays
        });
    }

    fn take(&mut self, ports: Vec<Port>, new: Vec<usize>, sockets: Vec<OwnedFd>) -> io::Result<()> {
        self.keep(&ports);
        let mut sockets: Vec<(usize, OwnedFd)> = new.into_iter().zip(sockets).collect();
        for (at, port) in ports.into_iter().enumerate() {
            let known = self.ports.iter().position(|held| held.port.is_same_socket(&port));
            let (socket, route, target) = match known {
                Some(known) if self.ports[known].port == port => continue,
                Some(known) => {
                    let held = self.ports.swap_remove(known);
                    held.serves.abort();
                    (held.socket, held.route, held.target)
                }
                None => {
                    let found = sockets.iter().position(|(of, _)| *of == at);
                    let (_, socket) = sockets.swap_remove(found.ok_or(io::ErrorKind::NotFound)?);
                    (open(port.protocol, socket)?, Arc::new(Route::new()), None)
                }
            };
            let serves = match socket.clone() {
                Socket::Stream(listener) => {
                    tokio::spawn(streams::serve(listener, Arc::clone(&route), port.is_http))
                }
                Socket::Datagram(socket) => tokio::spawn(datagrams::serve(socket, Arc::clone(&route))),
            };
            self.ports.push(Held { port, socket, route, target, serves });
        }
        Ok(())
    }

    fn lead(&mut self, lead: Lead, folder: OwnedFd) -> io::Result<()> {
        if self.instance.as_ref().is_none_or(|known| !known.running.is_same(&lead.running)) {
            let takes_turns = lead.stands_in || self.is_stood_in_for();
            let Some(instance) = self.instance_of(&lead)? else {
                // It has ended by now. Who answers meanwhile goes on.
                if lead.stands_in {
                    return Err(io::ErrorKind::NotFound.into());
                }
                self.is_held = false;
                if !takes_turns {
                    self.forget();
                    self.wait_for_the_next(lead.comes_back);
                }
                return Ok(());
            };
            match takes_turns {
                true => self.leave(),
                false => self.forget(),
            }
            self.instance = Some(instance);
        }
        self.is_held = false;
        self.waits_until = None;
        let Some(instance) = &mut self.instance else { return Ok(()) };
        for held in &mut self.ports {
            let to = SocketAddr::V4(held.port.to);
            if held.target.as_ref().is_none_or(|target| target.address != to) {
                let (gone, busy) = (instance.gone.subscribe(), instance.busy.clone());
                held.target = Some(Arc::new(Target::new(to, lead.listens, gone, busy)));
            }
        }
        (instance.comes_back, instance.stands_in) = (lead.comes_back, lead.stands_in);
        instance.opens.take().inspect(JoinHandle::abort);
        if lead.is_checked {
            let all =
                self.ports.iter().filter_map(|held| Some((Arc::clone(&held.route), held.target.clone()?)));
            let all = all.filter(|(route, target)| !is_open(route, target)).collect();
            instance.opens = Some(tokio::spawn(open_when_well(folder, instance.running.clone(), all)));
        } else {
            self.open();
        }
        Ok(())
    }

    /// The sandbox that is to be led to, one that ports led to before included; nothing if it has ended.
    fn instance_of(&mut self, lead: &Lead) -> io::Result<Option<Instance>> {
        if let Some(at) = self.leaving.iter().position(|known| known.running.is_same(&lead.running)) {
            return Ok(Some(self.leaving.swap_remove(at)));
        }
        let Ok(end) = unit::open(&lead.running) else { return Ok(None) };
        let (happens, running) = (self.happens.clone(), lead.running.clone());
        spawn(move || {
            wait_for(&end);
            let _ = happens.send(Heard::Ended(running));
        })?;
        Ok(Some(Instance {
            running: lead.running.clone(),
            comes_back: lead.comes_back,
            stands_in: lead.stands_in,
            gone: watch::Sender::new(false),
            busy: Busy::default(),
            targets: Vec::new(),
            opens: None,
        }))
    }

    /// The sandbox runs on, and gets what comes until ports are opened to another one.
    fn leave(&mut self) {
        let targets: Vec<_> = self.ports.iter_mut().filter_map(|held| held.target.take()).collect();
        if let Some(mut instance) = self.instance.take() {
            instance.opens.take().inspect(JoinHandle::abort);
            instance.targets.extend(targets);
            self.leaving.push(instance);
        }
    }

    /// Has the sandbox that stood in do so again, if it still runs, since the one that was led to has ended.
    fn stand_in_again(&mut self) -> bool {
        let Some(at) = self.leaving.iter().position(|known| known.stands_in) else { return false };
        self.forget();
        let instance = self.leaving.swap_remove(at);
        for held in &mut self.ports {
            let target = instance.targets.iter().find(|target| target.address.port() == held.port.to.port());
            held.target = target.cloned();
        }
        self.instance = Some(instance);
        self.open();
        true
    }

    /// Opens all ports to what they lead to.
    fn open(&self) {
        for held in &self.ports {
            if let Some(target) = &held.target {
                held.route.open(Arc::clone(target));
            }
        }
    }

    fn hold(&mut self) {
        self.is_held = true;
        self.ports.iter().for_each(|held| held.route.close());
        if let Some(opens) = self.instance.as_mut().and_then(|instance| instance.opens.take()) {
            opens.abort();
        }
    }

    /// Nothing that comes is led to the sandbox from now on.
    fn forget(&mut self) {
        if let Some(instance) = self.instance.take() {
            instance.gone.send_replace(true);
            instance.opens.inspect(JoinHandle::abort);
        }
        for held in &mut self.ports {
            held.target = None;
            held.route.close();
        }
    }

    /// A sandbox has ended.
    fn ended(&mut self, running: &Running) {
        if let Some(at) = self.leaving.iter().position(|known| known.running.is_same(running)) {
            let left = self.leaving.swap_remove(at);
            left.gone.send_replace(true);
            let leads_there = |held: &&Held| left.targets.iter().any(|target| is_open(&held.route, target));
            // Who comes waits for the one that is led to next.
            self.ports.iter().filter(leads_there).for_each(|held| held.route.close());
            return;
        }
        let Some(instance) = self.instance.as_ref().filter(|known| known.running.is_same(running)) else {
            return;
        };
        let comes_back = instance.comes_back;
        if self.stand_in_again() {
            return;
        }
        self.forget();
        // Unless somebody meant it to end.
        self.wait_for_the_next(comes_back && !self.is_held);
    }

    /// Nothing is there to lead to, for a while if another sandbox comes.
    fn wait_for_the_next(&mut self, it_comes: bool) {
        self.waits_until = it_comes.then(|| Instant::now() + PATIENCE);
    }

    /// Whether there is nothing to hold ports for. What was held, and is left by whoever held it, goes on as it was.
    fn is_left(&mut self) -> bool {
        if !self.claims.is_empty() {
            return false;
        }
        if std::mem::take(&mut self.is_held) && self.instance.is_some() {
            self.open();
        }
        self.instance.is_none() && self.waits_until.is_none()
    }
}

fn is_open(route: &Route, target: &Arc<Target>) -> bool {
    route.now().is_some_and(|open| Arc::ptr_eq(&open, target))
}

fn open(protocol: Protocol, socket: OwnedFd) -> io::Result<Socket> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(match protocol {
        Protocol::Tcp => Socket::Stream(Arc::new(tokio::net::TcpListener::from_std(socket.into())?)),
        Protocol::Udp => Socket::Datagram(Arc::new(tokio::net::UdpSocket::from_std(socket.into())?)),
    })
}

/// Waits until what this stands for has ended.
fn wait_for(process: &OwnedFd) {
    let mut poll = [PollFd::new(process, PollFlags::IN)];
    while matches!(rustix::event::poll(&mut poll, None), Err(rustix::io::Errno::INTR)) {}
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Answers when nothing is under way any more, or what is has had its time.
async fn drained(left: Vec<(Busy, Vec<Arc<Target>>)>, answer: oneshot::Sender<Answer>) {
    let at_most = Instant::now() + DRAINS;
    while left.iter().any(|(busy, _)| busy.count() > 0) && Instant::now() < at_most {
        sleep(LOOK).await;
    }
    // A server may wait with its end until they are closed.
    left.iter().flat_map(|(_, targets)| targets).for_each(|target| target.idle().clear());
    let _ = answer.send(Answer::Done);
}

/// Opens ports when a check says that the sandbox is well; or that it is not, or nothing for long: no answer of its own
/// is better by then than none.
async fn open_when_well(folder: OwnedFd, running: Running, ports: Vec<(Arc<Route>, Arc<Target>)>) {
    let at_most = Instant::now() + PATIENCE;
    let folder_path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()));
    let is_known =
        || health::health(&folder_path, &running).is_some_and(|health| health.status != Status::Starting);
    while !is_known() && Instant::now() < at_most {
        sleep(LOOK).await;
    }
    ports.iter().for_each(|(route, target)| route.open(Arc::clone(target)));
}
