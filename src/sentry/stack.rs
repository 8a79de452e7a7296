//! Stack traces, reduced to the few calls that an event shows.
//!
//! A stack is the largest part of most bodies. Its texts stay borrowed from the body until it is known which calls are kept.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::de::{MapAccess, SeqAccess};

use super::lenient::{FromJson, Lenient, members, values_of};
use crate::alert::{MAX_FRAMES, StackFrame};

/// A stack.
#[derive(Debug, Default)]
pub(super) struct Stacktrace {
    frames: Option<Frames>,
}

members!(Stacktrace { "frames" => frames });

/// The innermost calls of the application or, if no call belongs to the application, of all calls; outermost first. Calls
/// that name neither a place nor a function are left out.
#[derive(Debug)]
pub(super) struct Frames(Vec<StackFrame>);

/// One call. Its texts are not blank.
#[derive(Debug, Default)]
struct BorrowedFrame<'de> {
    function: Option<Cow<'de, str>>,
    module: Option<Cow<'de, str>>,
    filename: Option<Cow<'de, str>>,
    abs_path: Option<Cow<'de, str>>,
    lineno: Option<i128>,
    in_app: Option<bool>,
}

members!(BorrowedFrame<'de> {
    "function" => function,
    "module" => module,
    "filename" => filename,
    "abs_path" | "absPath" => abs_path,
    "lineno" | "lineNo" => lineno,
    "in_app" | "inApp" => in_app,
});

impl<'de> FromJson<'de> for Frames {
    fn from_list<A: SeqAccess<'de>>(mut list: A) -> Result<Option<Self>, A::Error> {
        let (mut own, mut all) = (VecDeque::with_capacity(MAX_FRAMES), VecDeque::with_capacity(MAX_FRAMES));
        while let Some(Lenient(frame)) = list.next_element::<Lenient<BorrowedFrame<'de>>>()? {
            let Some(frame) = frame.filter(BorrowedFrame::says_something) else { continue };
            let is_own = frame.in_app == Some(true);
            // Once there is a call of the application, other calls are not needed.
            if !is_own && !own.is_empty() {
                continue;
            }
            let calls = if is_own { &mut own } else { &mut all };
            if calls.len() == MAX_FRAMES {
                calls.pop_front();
            }
            calls.push_back(frame);
        }
        let calls = if own.is_empty() { all } else { own };
        Ok(Some(Self(calls.into_iter().map(BorrowedFrame::into_frame).collect())))
    }

    fn from_object<A: MapAccess<'de>>(object: A) -> Result<Option<Self>, A::Error> {
        values_of(object)
    }
}

impl Stacktrace {
    pub(super) fn new(frames: Option<Frames>) -> Self {
        Self { frames }
    }

    /// The calls that are kept, innermost first; `None` when there are none.
    pub(super) fn into_frames(self) -> Option<Vec<StackFrame>> {
        let Frames(mut frames) = self.frames?;
        frames.reverse();
        (!frames.is_empty()).then_some(frames)
    }
}

impl BorrowedFrame<'_> {
    fn says_something(&self) -> bool {
        [&self.function, &self.module, &self.filename, &self.abs_path].iter().any(|text| text.is_some())
    }

    fn into_frame(self) -> StackFrame {
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        StackFrame {
            function: owned(self.function),
            module: owned(self.module),
            filename: owned(self.filename.or(self.abs_path)),
            line: self.lineno.and_then(|line| u64::try_from(line).ok()).filter(|&line| line > 0),
            in_app: self.in_app == Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sentry::json;

    /// The functions that are kept of these frames, innermost first.
    fn kept(frames: &Value) -> Vec<String> {
        let stack = json::read::<Stacktrace>(json!({ "frames": frames }).to_string().as_bytes()).unwrap().unwrap();
        let frames = stack.into_frames().unwrap_or_default();
        frames.into_iter().map(|frame| frame.function.unwrap_or_default()).collect()
    }

    fn call(function: usize, in_app: bool) -> Value {
        json!({"function": function, "in_app": in_app})
    }

    #[test]
    fn the_innermost_calls_are_kept() {
        let expected: Vec<_> = (10..20).rev().map(|number| number.to_string()).collect();
        assert_eq!(kept(&(0..20).map(|number| call(number, false)).collect()), expected);
        assert_eq!(kept(&(0..20).map(|number| call(number, true)).collect()), expected);
        assert_eq!(kept(&json!({"values": [call(1, false), call(2, false)]})), ["2", "1"]);
    }

    #[test]
    fn the_calls_of_the_application_are_kept_wherever_they_stand() {
        let around = |own: usize| (0..40).map(|number| call(number, number == own)).collect();
        for own in [0, 20, 39] {
            assert_eq!(kept(&around(own)), [own.to_string()]);
        }
    }

    #[test]
    fn calls_that_say_nothing_take_no_room() {
        let silent = json!({"in_app": true, "function": " ", "lineno": 7, "filename": null});
        let frames: Value = std::iter::once(call(1, false)).chain(vec![silent; 20]).chain([json!(3)]).collect();
        assert_eq!(kept(&frames), ["1"]);
    }
}
