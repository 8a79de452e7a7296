//! Logging in and out.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderValue, RETRY_AFTER, SET_COOKIE};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use chrono::Utc;
use serde::Deserialize;

use super::sent::Sent;
use super::visit::{Visit, own_path, stranger};
use super::{answer, login};
use crate::web::admin::origin::{came_by_https, is_same_site};
use crate::web::admin::session::Session;
use crate::web::admin::{Refusal, peer};
use crate::web::{Shared, nothing_here};

/// What the log-in form says.
#[derive(Deserialize)]
pub(super) struct LogIn {
    token: String,
    #[serde(default)]
    next: String,
}

/// What every other form says.
#[derive(Deserialize)]
pub(super) struct Proof {
    pub(super) csrf: String,
    /// The newest entry of which somebody was asked, where all are meant.
    #[serde(default)]
    pub(super) up_to: Option<i64>,
    /// Whether a trigger is sent again although its incident was resolved since.
    #[serde(default)]
    pub(super) force: bool,
}

/// `POST /login`.
pub(super) async fn log_in(request: HttpRequest, Sent(form): Sent<LogIn>, shared: Data<Shared>) -> HttpResponse {
    if !shared.admin.exists() {
        return nothing_here();
    }
    let now = Utc::now();
    let next = form.as_ref().map_or("/", |form| own_path(&form.next));
    let again = |status, problem: &str| answer::page(status, login::page(&stranger(now), next, Some(problem)));
    let Some(form) = &form else {
        return again(StatusCode::BAD_REQUEST, "The form came without a token.");
    };
    if !is_same_site(request.headers()) {
        return again(StatusCode::FORBIDDEN, "The form did not come from this page. Try again here.");
    }
    match shared.admin.log_in(&form.token, peer(&request), now, rand::random()) {
        Ok(session) => with_cookie(answer::see(next), &session.cookie(came_by_https(request.headers()))),
        Err(Refusal::Missing | Refusal::Wrong) => again(StatusCode::UNAUTHORIZED, "The token is wrong."),
        Err(Refusal::Limited(wait)) => {
            let seconds = wait.as_secs() + 1;
            let problem = format!("Too many wrong tokens. Wait for {seconds} s and try again.");
            let mut answer = again(StatusCode::TOO_MANY_REQUESTS, &problem);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            answer
        }
    }
}

/// `POST /logout`.
pub(super) async fn log_out(request: HttpRequest, Sent(form): Sent<Proof>, shared: Data<Shared>) -> HttpResponse {
    match Visit::of_form(&request, &shared, form.as_ref().map(|form| form.csrf.as_str())) {
        Ok(visit) => {
            shared.admin.log_out(&visit.session);
            with_cookie(answer::see("/"), &Session::end())
        }
        Err(answer) => *answer,
    }
}

fn with_cookie(mut answer: HttpResponse, cookie: &str) -> HttpResponse {
    // What a session writes are characters that a header may hold.
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        answer.headers_mut().insert(SET_COOKIE, cookie);
    }
    answer
}
