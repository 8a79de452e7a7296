//! The status page: rendered on the server, works without JavaScript, and shows nothing to users who are not logged in.
//!
//! - `handlers`: the handlers of the requests
//! - `request`: the authentication of a request, its form, and the error pages
//! - `overview`, `lists`, `detail`, `forms`: the pages
//! - `notice`: the result of an action
//! - `services`: what waits for each service of PagerDuty
//! - `sentry`: what is known of Sentry
//! - `charts`: the charts of the overview
//! - `layout`: the frame around every page; style, script and icon
//! - `text`: numbers and times as text, and external texts made harmless

mod charts;
mod detail;
mod forms;
mod handlers;
mod layout;
mod lists;
mod notice;
mod overview;
mod request;
mod sentry;
mod services;
#[cfg(test)]
pub(super) mod tests;
mod text;

use actix_web::web::{self, ServiceConfig};

use super::answer::not_found;

/// Adds the status page, and what belongs to it, to an application.
pub(super) fn routes(config: &mut ServiceConfig) {
    let at = |path: &str, route| web::resource(path).route(route).default_service(web::to(async || not_found()));
    config
        .service(at("/", web::get().to(handlers::home)).route(web::head().to(handlers::home)))
        .service(at("/assets/{name}", web::get().to(handlers::asset)))
        .service(at("/login", web::post().to(handlers::log_in)))
        .service(at("/logout", web::post().to(handlers::log_out)))
        .service(at("/recent", web::get().to(handlers::recent)))
        .service(at("/services", web::get().to(handlers::services)))
        .service(at("/test", web::get().to(handlers::confirm_test)).route(web::post().to(handlers::send_test)))
        .service(at("/dead", web::get().to(handlers::dead)))
        .service(at("/rejected", web::get().to(handlers::rejected)));
    for list in ["/dead", "/rejected"] {
        config.service(at(&format!("{list}/retry"), web::post().to(handlers::retry_all))).service(
            at(&format!("{list}/discard"), web::get().to(handlers::confirm_all))
                .route(web::post().to(handlers::discard_all)),
        );
    }
    for list in ["/events", "/rejected"] {
        config
            .service(at(&format!("{list}/{{id}}"), web::get().to(handlers::item)))
            .service(at(&format!("{list}/{{id}}/retry"), web::post().to(handlers::retry)))
            .service(
                at(&format!("{list}/{{id}}/discard"), web::get().to(handlers::confirm))
                    .route(web::post().to(handlers::discard)),
            );
    }
}
