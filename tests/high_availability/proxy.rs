//! A TCP proxy: a load balancer of the bridges, an address that follows the primary, or a network that drops all packets.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// Forwards connections to servers in turn.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    servers: Vec<SocketAddr>,
    connections: usize,
    is_blackhole: bool,
}

impl Proxy {
    pub(crate) fn start(servers: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Mutex::new(State { servers, connections: 0, is_blackhole: false });
        let shared = Arc::new(Shared { state, changed: Condvar::new() });
        let forwarding = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&forwarding);
                thread::spawn(move || shared.forward(client));
            }
        });
        Self { address, shared }
    }

    /// Forwards new connections to these servers from now on; if there is none, they are closed.
    pub(crate) fn forward_to(&self, servers: Vec<SocketAddr>) {
        self.shared.change(|state| state.servers = servers);
    }

    /// Holds back all bytes of old and new connections, without an error, or forwards them again. Bytes that were held back
    /// arrive then, as with TCP retransmissions.
    pub(crate) fn blackhole(&self, is_blackhole: bool) {
        self.shared.change(|state| state.is_blackhole = is_blackhole);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits while the proxy holds back bytes.
    fn pass(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| state.is_blackhole).unwrap());
    }

    fn server(&self) -> Option<SocketAddr> {
        let mut state = self.state.lock().unwrap();
        state.connections += 1;
        let place = state.connections.checked_rem(state.servers.len())?;
        state.servers.get(place).copied()
    }

    fn forward(self: Arc<Self>, client: TcpStream) {
        self.pass();
        let Some(server) = self.server().and_then(|server| TcpStream::connect(server).ok()) else { return };
        let (Ok(from_server), Ok(to_client)) = (server.try_clone(), client.try_clone()) else { return };
        let shared = Arc::clone(&self);
        thread::spawn(move || shared.copy(from_server, to_client));
        self.copy(client, server);
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16_384];
        while let Ok(number @ 1..) = from.read(&mut buffer) {
            self.pass();
            if to.write_all(&buffer[..number]).is_err() {
                break;
            }
        }
        self.pass();
        let _ = to.shutdown(Shutdown::Write);
    }
}
