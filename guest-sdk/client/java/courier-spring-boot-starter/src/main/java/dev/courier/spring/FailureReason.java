package dev.courier.spring;

import dev.courier.HandlerFailure;

/** Says in a line why a handler failed. */
final class FailureReason {
    private static final int LENGTH_MOST = 1_000;
    private static final int CAUSES_MOST = 20;

    private FailureReason() {
    }

    /**
     * The reason of an exception: its class and message, the first line of the handler's own code on its way, and the
     * first cause. Of a {@link HandlerFailure} only what the handler said.
     */
    static String of(Throwable thrown, Class<?> handler) {
        if (thrown instanceof HandlerFailure && thrown.getMessage() != null) {
            return cut(thrown.getMessage());
        }
        StringBuilder reason = new StringBuilder(line(thrown));
        Throwable root = root(thrown);
        if (root != thrown) {
            reason.append("; caused by ").append(line(root));
        }
        StackTraceElement own = ownLine(thrown, handler);
        if (own != null) {
            String name = own.getClassName();
            reason.append(" (at ").append(name.substring(name.lastIndexOf('.') + 1)).append('.')
                    .append(own.getMethodName()).append(':').append(own.getLineNumber()).append(')');
        }
        return cut(reason.toString());
    }

    private static String line(Throwable thrown) {
        String name = thrown.getClass().getName();
        String simple = name.substring(name.lastIndexOf('.') + 1);
        return thrown.getMessage() == null ? simple : simple + ": " + thrown.getMessage();
    }

    private static Throwable root(Throwable thrown) {
        Throwable root = thrown;
        // Causes may form a circle.
        for (int depth = 0; depth < CAUSES_MOST && root.getCause() != null; depth++) {
            root = root.getCause();
        }
        return root;
    }

    private static StackTraceElement ownLine(Throwable thrown, Class<?> handler) {
        String own = handler.getPackageName();
        Throwable at = thrown;
        for (int depth = 0; depth < CAUSES_MOST && at != null; depth++, at = at.getCause()) {
            for (StackTraceElement frame : at.getStackTrace()) {
                String name = frame.getClassName();
                boolean inside = name.startsWith(own + ".") || own.isEmpty() && name.indexOf('.') < 0;
                // Proxies have no lines.
                if (inside && frame.getLineNumber() > 0) {
                    return frame;
                }
            }
        }
        return null;
    }

    private static String cut(String reason) {
        return reason.length() <= LENGTH_MOST ? reason : reason.substring(0, LENGTH_MOST) + "..";
    }
}
