//! Who asks for a page: nobody sees anything without a session, and no form is taken that the page did not write.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse};
use chrono::{DateTime, Utc};

use super::layout::{self, About, Frame};
use super::{answer, login};
use crate::web::Shared;
use crate::web::admin::origin::is_same_site;
use crate::web::admin::session::Session;
use crate::web::nothing_here;

/// A request of somebody who is logged in.
pub(super) struct Visit {
    pub(super) at: DateTime<Utc>,
    pub(super) frame: Frame,
    pub(super) session: Session,
}

impl Visit {
    /// Lets in whoever is logged in, and answers everybody else: with the log-in form, or 404 where there is no admin
    /// token.
    pub(super) fn of(request: &HttpRequest, shared: &Shared) -> Result<Self, Box<HttpResponse>> {
        let at = Utc::now();
        if !shared.admin.exists() {
            return Err(Box::new(nothing_here()));
        }
        let Some(session) = shared.admin.session(request.headers(), at) else {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let next = if request.method().is_safe() { path } else { "/" };
            let form = login::page(&stranger(at), own_path(next), None);
            return Err(Box::new(answer::page(StatusCode::UNAUTHORIZED, form)));
        };
        let about = About { imprint: shared.imprint.clone(), started_at: shared.watch.started_at() };
        let frame = Frame { at, csrf: Some(session.csrf().to_owned()), about: Some(about) };
        Ok(Self { at, frame, session })
    }

    /// The same for a form, which has to carry `csrf` and to come from this site.
    pub(super) fn of_form(
        request: &HttpRequest,
        shared: &Shared,
        csrf: Option<&str>,
    ) -> Result<Self, Box<HttpResponse>> {
        let visit = Self::of(request, shared)?;
        if is_same_site(request.headers()) && csrf.is_some_and(|csrf| visit.session.is_csrf_right(csrf)) {
            Ok(visit)
        } else {
            Err(Box::new(visit.say(
                StatusCode::FORBIDDEN,
                "Not done",
                "The form did not come from this page, or is from before your last log-in. Go back to the status page and \
                 try again.",
            )))
        }
    }

    /// A sentence in the place of a page.
    pub(super) fn say(&self, status: StatusCode, title: &str, sentence: &str) -> HttpResponse {
        answer::page(status, layout::message(&self.frame, title, sentence))
    }
}

/// The frame of a page for somebody who is not logged in.
pub(super) fn stranger(at: DateTime<Utc>) -> Frame {
    Frame { at, csrf: None, about: None }
}

/// The path itself when it leads to a page of this site, else the status page.
pub(super) fn own_path(path: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/?=&_-".contains(&byte);
    if path.starts_with('/') && !path.starts_with("//") && path.bytes().all(plain) { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_log_in_nobody_is_led_elsewhere() {
        for path in ["/", "/events/7", "/dead?before=12", "/rejected/r4/discard"] {
            assert_eq!(own_path(path), path);
        }
        for path in ["", "//evil.test", "https://evil.test", "/\\evil.test", "/a:b", "events", "/%0d%0a", "/\r\nx"] {
            assert_eq!(own_path(path), "/", "{path:?}");
        }
    }
}
