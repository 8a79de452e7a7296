//! The two ports, on a thread of their own, so that any runtime can use the sandbox and none has to outlive it.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use actix_web::dev::{Server, ServerHandle};
use actix_web::web::{self, Data};
use actix_web::{App, HttpServer};
use futures_util::future::try_join_all;
use tokio::sync::oneshot;

use crate::api::{self, Run};
use crate::connection::Connection;
use crate::control;

/// Servers at work.
#[derive(Debug)]
pub(crate) struct Running {
    handles: Vec<ServerHandle>,
    thread: thread::JoinHandle<()>,
    /// Errs when the servers' thread is done.
    done: oneshot::Receiver<()>,
}

impl Running {
    /// Starts both servers; they answer when this returns.
    pub(crate) fn start(run: Run, api: TcpListener, control: Option<TcpListener>) -> io::Result<Self> {
        let (started, wait) = mpsc::channel();
        let (until_done, done) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
            let _until_done = until_done;
            actix_web::rt::System::new().block_on(async move {
                match servers(run, api, control) {
                    Err(error) => drop(started.send(Err(error))),
                    Ok(servers) => {
                        let handles = servers.iter().map(Server::handle).collect();
                        drop(started.send(Ok(handles)));
                        if let Err(error) = try_join_all(servers).await {
                            log::error!("The sandbox has ended: {error}");
                        }
                    }
                }
            });
        })?;
        let handles = wait.recv().map_err(|_| io::Error::other("the sandbox's thread did not start"))??;
        Ok(Self { handles, thread, done })
    }

    /// Ends both servers and waits until their ports are free.
    pub(crate) async fn stop(self) {
        for handle in &self.handles {
            handle.stop(false).await;
        }
        let _ = self.done.await;
    }

    /// The same where nothing can be awaited: keeps this thread for the moment it takes.
    pub(crate) fn stop_blocking(self) {
        for handle in &self.handles {
            // The command is on its way before the future is polled.
            drop(handle.stop(false));
        }
        // A panic in there was reported when it happened.
        let _ = self.thread.join();
    }
}

fn servers(run: Run, api: TcpListener, control: Option<TcpListener>) -> io::Result<Vec<Server>> {
    let shared = Data::from(Arc::clone(&run.shared));
    let keep_alive = run.shared.read(|records| records.options.keep_alive);
    let connections = AtomicU64::new(0);
    let api =
        HttpServer::new(move || App::new().app_data(Data::new(run.clone())).default_service(web::to(api::answer)))
            .on_connect(move |stream, data| {
                let id = connections.fetch_add(1, Ordering::Relaxed) + 1;
                data.insert(Arc::new(Connection::new(id, stream)));
            })
            .workers(1)
            .keep_alive(keep_alive)
            .disable_signals()
            .listen(api)?
            .run();
    let mut servers = vec![api];
    if let Some(control) = control {
        let control = HttpServer::new(move || App::new().app_data(shared.clone()).configure(control::endpoints))
            .workers(1)
            .disable_signals()
            .listen(control)?
            .run();
        servers.push(control);
    }
    Ok(servers)
}
