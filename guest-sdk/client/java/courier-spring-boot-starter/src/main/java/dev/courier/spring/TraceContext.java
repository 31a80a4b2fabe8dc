package dev.courier.spring;

import io.micrometer.tracing.Span;
import io.micrometer.tracing.Tracer;
import java.util.function.Supplier;

/** The trace that the thread works in, as {@code traceparent} of W3C Trace Context. */
final class TraceContext {
    private static final ThreadLocal<String> RECEIVED = new ThreadLocal<>();
    private static final int TRACE_DIGITS = 32;

    private TraceContext() {
    }

    /** The trace of the request that is handled, for services without a tracer. */
    static String received() {
        return RECEIVED.get();
    }

    /** Runs a call within the trace of a request. */
    static void within(String traceparent, Runnable call) {
        String before = RECEIVED.get();
        RECEIVED.set(traceparent);
        try {
            call.run();
        } finally {
            if (before == null) {
                RECEIVED.remove();
            } else {
                RECEIVED.set(before);
            }
        }
    }

    /** Asks Micrometer's tracer, and else the request that is handled. */
    static Supplier<String> of(Tracer tracer) {
        return () -> {
            Span span = tracer.currentSpan();
            return span == null || span.isNoop() ? received() : format(span.context());
        };
    }

    private static String format(io.micrometer.tracing.TraceContext span) {
        String trace = "0".repeat(Math.max(0, TRACE_DIGITS - span.traceId().length())) + span.traceId();
        boolean sampled = Boolean.TRUE.equals(span.sampled());
        return "00-" + trace + "-" + span.spanId() + (sampled ? "-01" : "-00");
    }
}
