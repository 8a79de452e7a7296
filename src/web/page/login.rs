//! The log-in form.

use maud::{Markup, html};

use super::layout::{self, Frame, Kind};

/// The log-in form, with why the last attempt failed. After the log-in the browser goes to `next`.
pub(super) fn page(frame: &Frame, next: &str, problem: Option<&str>) -> Markup {
    let main = html! {
        section .card .narrow {
            h1 { "Log in" }
            @if let Some(problem) = problem {
                p #problem .problem role="alert" { (problem) }
            }
            form method="post" action="/login" .login {
                // Password managers keep a password together with a name.
                input .sr type="text" name="username" value="admin" autocomplete="username" tabindex="-1" aria-hidden="true" readonly;
                label for="token" { "Admin token" }
                input #token type="password" name="token" required autofocus autocomplete="current-password"
                    aria-describedby="where";
                p #where .hint { "The bridge's operator has it, as " code { "BRIDGE_ADMIN_TOKEN" } "." }
                input type="hidden" name="next" value=(next);
                button .primary type="submit" { "Log in" }
            }
        }
    };
    layout::page(frame, "Log in", Kind::Still, &main)
}
