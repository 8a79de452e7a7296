//! A TCP proxy: a load balancer for the bridges, the address that follows the primary, or a network that drops everything.

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

    /// New connections go to these servers from now on; those to no server are closed.
    pub(crate) fn forward_to(&self, servers: Vec<SocketAddr>) {
        self.shared.change(|state| state.servers = servers);
    }

    /// Whether bytes, of connections old and new, stay away from now on, without any error. When they no longer do, those
    /// that were held back arrive, as TCP sends them again.
    pub(crate) fn blackhole(&self, is_blackhole: bool) {
        self.shared.change(|state| state.is_blackhole = is_blackhole);
    }
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until bytes get through.
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
