//! The status page: rendered here, works without JavaScript, and shows nothing to whoever is not logged in.
//!
//! - [`view`]: what is shown, as plain data
//! - [`layout`]: what every page has around it
//! - `login`, `overview`, `letters`, `rejected`, `recent`, `detail`: the pages
//! - `charts`, `destinations`, `forms`: parts of them
//! - `visit`: who asks for a page; `enter`: logging in and out
//! - `show`, `act`: what `GET` and `POST` are answered; `answer`: with which headers; `sent`: the forms of `POST`
//! - `text`: words for numbers and times, and texts of strangers made harmless
//! - `assets`: style, script and icon, built into the program

mod act;
mod answer;
mod assets;
mod charts;
mod destinations;
mod detail;
mod enter;
mod forms;
pub mod layout;
mod letters;
mod login;
mod overview;
mod recent;
mod rejected;
mod sent;
mod show;
#[cfg(test)]
mod tests;
mod text;
pub mod view;
mod visit;

use actix_web::web::{self, ServiceConfig};

use super::nothing_here;

/// Adds the status page, and what belongs to it, to an application.
pub fn routes(config: &mut ServiceConfig) {
    let at = |path: &str, route| web::resource(path).route(route).default_service(web::to(async || nothing_here()));
    config
        .service(at("/", web::get().to(show::home)))
        .service(at("/assets/{name}", web::get().to(show::asset)))
        .service(at("/login", web::post().to(enter::log_in)))
        .service(at("/logout", web::post().to(enter::log_out)))
        .service(at("/recent", web::get().to(show::recent)))
        .service(at("/dead", web::get().to(show::dead)))
        .service(at("/dead/retry", web::post().to(act::retry_all)))
        .service(at("/dead/discard", web::get().to(show::ask_all)).route(web::post().to(act::discard_all)))
        .service(at("/rejected", web::get().to(show::rejected)))
        .service(at("/rejected/retry", web::post().to(act::retry_all)))
        .service(at("/rejected/discard", web::get().to(show::ask_all)).route(web::post().to(act::discard_all)));
    for place in ["/events", "/rejected"] {
        config
            .service(at(&format!("{place}/{{id}}"), web::get().to(show::item)))
            .service(at(&format!("{place}/{{id}}/retry"), web::post().to(act::retry)))
            .service(
                at(&format!("{place}/{{id}}/discard"), web::get().to(show::ask)).route(web::post().to(act::discard)),
            );
    }
}
