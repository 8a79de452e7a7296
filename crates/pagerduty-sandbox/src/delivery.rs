//! How an answer travels: whole, late, in pieces or not at all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::{BoxBody, SizedStream};
use actix_web::http::StatusCode;
use actix_web::rt::time::sleep;
use actix_web::web::Bytes;
use futures_util::stream;

use crate::answers::Answer;
use crate::connection::Connection;
use crate::pipeline::Delivery;

/// No fault keeps a connection waiting for longer.
const LONGEST: Duration = Duration::from_mins(10);

/// The response that makes the server do what `delivery` says.
pub(crate) async fn deliver(answer: Answer, delivery: Delivery, connection: &Arc<Connection>) -> HttpResponse {
    match delivery {
        Delivery::Whole => whole(answer),
        Delivery::Late(by) => {
            sleep(by.min(LONGEST)).await;
            whole(answer)
        }
        Delivery::Never(after) => {
            sleep(after.min(LONGEST)).await;
            nothing()
        }
        Delivery::Reset => {
            connection.will_be_reset();
            nothing()
        }
        Delivery::CloseIdle(after) => {
            connection.close_when_idle(after.min(LONGEST));
            whole(answer)
        }
        Delivery::Half => half(answer),
        Delivery::Drip(pause) => drip(answer, pause.min(LONGEST)),
    }
}

/// Ends the connection without a byte: a body that fails at once does so before the head has left the server's buffer.
pub(crate) fn nothing() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::iter([Err::<Bytes, _>(cut())]))
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the sandbox cuts this answer off, as it was told to")
}

fn whole(answer: Answer) -> HttpResponse {
    let body = answer.body.clone();
    with_body(answer, BoxBody::new(body))
}

fn half(answer: Answer) -> HttpResponse {
    let (length, half) = (answer.body.len(), answer.body.slice(..answer.body.len() / 2));
    let pieces = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok(half), None));
        }
        // The server writes its buffer out when the body makes it wait; failing sooner would take the head along.
        tokio::task::yield_now().await;
        Some((Err(cut()), None))
    });
    with_body(answer, BoxBody::new(SizedStream::new(length as u64, pieces)))
}

fn drip(answer: Answer, pause: Duration) -> HttpResponse {
    let length = answer.body.len() as u64;
    let drops = stream::unfold(answer.body.clone(), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(pause).await;
        let drop = rest.split_to(1);
        Some((Ok::<_, io::Error>(drop), rest))
    });
    with_body(answer, BoxBody::new(SizedStream::new(length, drops)))
}

fn with_body(answer: Answer, body: BoxBody) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for header in answer.headers {
        response.insert_header(header);
    }
    if answer.close {
        response.force_close();
    }
    response.body(body)
}
