//! The values of each label with a closed list of values.

/// Defines an enum that indexes an array of handles, with the text of each value.
macro_rules! label_values {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($value,)+
        }

        impl $name {
            pub(super) const ALL: &'static [Self] = &[$(Self::$value,)+];

            pub(super) const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$value => $text,)+
                }
            }
        }
    };
}

label_values! {
    /// A method of the protocol.
    Rpc {
        Classify = "Classify",
        ClassifyStream = "ClassifyStream",
        Embed = "Embed",
        ListHeads = "ListHeads",
        WatchHeads = "WatchHeads",
    }
}

label_values! {
    /// How a request ended, named as in the gRPC specification.
    Code {
        Ok = "OK",
        InvalidArgument = "INVALID_ARGUMENT",
        OutOfRange = "OUT_OF_RANGE",
        NotFound = "NOT_FOUND",
        FailedPrecondition = "FAILED_PRECONDITION",
        ResourceExhausted = "RESOURCE_EXHAUSTED",
        DeadlineExceeded = "DEADLINE_EXCEEDED",
        Cancelled = "CANCELLED",
        Unavailable = "UNAVAILABLE",
        Unimplemented = "UNIMPLEMENTED",
        Internal = "INTERNAL",
    }
}

label_values! {
    /// A stage in which an image spends time.
    Stage {
        Decode = "decode",
        Queue = "queue",
        Forward = "forward",
        Head = "head",
    }
}

label_values! {
    /// Why a request got no verdict for lack of capacity or time.
    Rejection {
        QueueFull = "queue_full",
        BytesFull = "bytes_full",
        Deadline = "deadline",
        Draining = "draining",
        DeviceLost = "device_lost",
    }
}

label_values! {
    /// The outcome of reloading a head file.
    Reload {
        Installed = "installed",
        Refused = "refused",
        Withdrawn = "withdrawn",
        ScanFailed = "scan_failed",
    }
}

label_values! {
    /// The decision of a verdict.
    DecisionLabel {
        Pass = "PASS",
        Reject = "REJECT",
        Review = "REVIEW",
    }
}
