package courier.bench;

import java.util.List;

/** Parallel Consumer with a JDBC insert a record. */
final class ParallelRecord {
    /** Records at work at once: as many as Courier lets a binding have. */
    private static final int CONCURRENCY = 64;

    private ParallelRecord() {}

    public static void main(String[] arguments) {
        var database = ParallelPeer.database(true);
        ParallelPeer.start(options -> options.maxConcurrency(CONCURRENCY), context -> {
            var record = context.getSingleConsumerRecord();
            var received = Row.now();
            try {
                Row row;
                try {
                    Work.handle(record.key(), record.value());
                    row = Row.of(record, received, received, null);
                } catch (Work.Failed failure) {
                    row = ParallelPeer.givenUp(context.getSingleRecord(), received, failure);
                    if (row == null) {
                        throw failure;
                    }
                }
                ParallelPeer.insert(database, List.of(row));
            } catch (Exception again) {
                throw new IllegalStateException(again);
            }
        });
    }
}
