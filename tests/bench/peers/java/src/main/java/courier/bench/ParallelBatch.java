package courier.bench;

import java.util.ArrayList;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;

/**
 * Parallel Consumer with batches: the records of one, each of another key, are handled at once and
 * written as one JDBC batch. Parallel Consumer tries a batch as a whole again, so what is to be
 * tried again is tried here.
 */
final class ParallelBatch {
    private static final int CONCURRENCY = 8;
    private static final int RECORDS = 250;

    private ParallelBatch() {}

    public static void main(String[] arguments) {
        var database = ParallelPeer.database(false);
        ParallelPeer.start(options -> options.maxConcurrency(CONCURRENCY).batchSize(RECORDS), context -> {
            var received = Row.now();
            var pending = new ArrayList<CompletableFuture<Row>>();
            for (var record : context.getConsumerRecordsFlattened()) {
                pending.add(attempt(record, received, 1));
            }
            try {
                ParallelPeer.insert(database, pending.stream().map(CompletableFuture::join).toList());
            } catch (java.sql.SQLException again) {
                throw new IllegalStateException(again);
            }
        });
    }

    private static CompletableFuture<Row> attempt(
            org.apache.kafka.clients.consumer.ConsumerRecord<byte[], byte[]> record, long received, int number) {
        var started = Row.now();
        return Work.handleLater(record.key(), record.value())
                .handle((nothing, failure) -> {
                    if (failure == null) {
                        return CompletableFuture.completedFuture(Row.of(record, received, started, null));
                    }
                    var cause = failure instanceof CompletionException ? failure.getCause() : failure;
                    if (number == Work.ATTEMPTS) {
                        return CompletableFuture.completedFuture(
                                Row.of(record, received, started, cause.getMessage()));
                    }
                    var later = CompletableFuture.delayedExecutor(
                            Work.RETRY_MS, java.util.concurrent.TimeUnit.MILLISECONDS);
                    return CompletableFuture.supplyAsync(() -> attempt(record, received, number + 1), later)
                            .thenCompose(row -> row);
                })
                .thenCompose(row -> row);
    }
}
