package dev.courier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** What annotations of a message's class mean, and which are refused. */
class MessageTypeTest {
    static class WithoutTopic extends Event {
    }

    @Topic(name = "order")
    static class TwoKeys extends Event {
        @PrimaryKey
        String one = "1";
        @PrimaryKey
        String two = "2";
    }

    @Topic(name = "order")
    static class Keyed extends Event {
        @PrimaryKey
        Long number;
    }

    static class Inherited extends Keyed {
        String more = "x";
    }

    private final Publisher publisher = CourierClient.of("http://127.0.0.1:7070", "shop");

    @AfterEach
    void release() {
        EventPublisher.release(publisher);
    }

    @Test
    void aClassWithoutATopicOrWithTwoKeysIsRefusedByName() {
        assertThatThrownBy(() -> MessageType.of(WithoutTopic.class)).isInstanceOf(InvalidMessageException.class)
                .hasMessageContaining("WithoutTopic names no topic");
        assertThatThrownBy(() -> MessageType.of(TwoKeys.class)).isInstanceOf(InvalidMessageException.class)
                .hasMessageContaining("TwoKeys.one").hasMessageContaining("TwoKeys.two");
    }

    @Test
    void aKeyMayBeANumberAndInheritedButNotNull() {
        Inherited event = new Inherited();
        assertThatThrownBy(() -> publisher.draft(event)).isInstanceOf(InvalidMessageException.class)
                .hasMessageContaining("Keyed.number is null");
        event.number = 7L;
        Draft draft = publisher.draft(event);
        assertThat(draft.key()).isEqualTo("7");
        assertThat(draft.type()).isEqualTo(new MessageType("order", "Inherited", false));
        assertThat(draft.body()).isEqualTo("{\"number\":7,\"more\":\"x\"}");
    }

    @Test
    void theStaticPublisherSaysWhatItNeeds() {
        assertThatThrownBy(() -> EventPublisher.publish(new Keyed())).isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("@EnableMessage");
        EventPublisher.use(publisher);
        assertThat(EventPublisher.publisher()).isSameAs(publisher);
    }
}
