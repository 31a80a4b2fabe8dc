package dev.courier.spring;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.annotation.JsonCreator;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.courier.Event;
import dev.courier.Message;
import dev.courier.Topic;
import java.beans.ConstructorProperties;
import java.time.Instant;
import org.junit.jupiter.api.Test;
import org.springframework.http.converter.json.Jackson2ObjectMapperBuilder;

/** How messages are made from JSON, by the mapper of Spring Boot, which knows the names of parameters. */
class MessageModuleTest {
    private final ObjectMapper mapper = Jackson2ObjectMapperBuilder.json().build().registerModule(new MessageModule());

    /** What a service keeps, and a message is made of. */
    record Order(String id, Instant at) {
    }

    @Topic(name = "order")
    static class OfAnOrder extends Event {
        final String orderId;
        final Instant at;

        public OfAnOrder(Order order, Instant at) {
            orderId = order.id();
            this.at = at;
        }
    }

    @Topic(name = "order")
    static class OfAnOrderAlone extends Event {
        String orderId;

        public OfAnOrderAlone(Order order) {
            orderId = order.id();
        }
    }

    @Topic(name = "order")
    static class OfItsFields extends Event {
        String orderId;
        String name;

        public OfItsFields(String orderId, String name) {
            this.orderId = orderId;
            this.name = name.trim();
        }
    }

    @Topic(name = "order")
    static class WithoutParameters extends Event {
        String orderId;
        String name = "tea";

        WithoutParameters() {
        }

        public WithoutParameters(Order order, String name) {
            orderId = order.id();
        }
    }

    @Topic(name = "order")
    static class WithCreator extends Event {
        final transient Order order;
        String orderId;

        @JsonCreator
        WithCreator(String orderId, String name) {
            this.orderId = orderId;
            order = new Order(orderId, Instant.EPOCH);
        }
    }

    @Topic(name = "order")
    static class WithFactory extends Event {
        String orderId;

        private WithFactory(Order order) {
            orderId = order.id();
        }

        @JsonCreator
        static WithFactory of(@JsonProperty("orderId") String id) {
            return new WithFactory(new Order("made of " + id, null));
        }
    }

    @Topic(name = "order")
    static class WithNames extends Event {
        String orderId;

        public WithNames(@JsonProperty("orderId") String id, @JsonProperty("name") String name) {
            orderId = id + name;
        }
    }

    @Topic(name = "order")
    static class WithConstructorProperties extends Event {
        String orderId;

        @ConstructorProperties({"orderId", "name"})
        public WithConstructorProperties(String orderId, String name) {
            this.orderId = orderId + name;
        }
    }

    private <T extends Message> T read(Class<T> type) throws JsonProcessingException {
        return mapper.readValue("{\"orderId\":\"o-1\",\"at\":\"1970-01-01T00:00:00Z\",\"unknown\":1}", type);
    }

    @Test
    void aConstructorOfTheServicesOwnIsNotCalled() throws JsonProcessingException {
        assertThat(read(OfAnOrder.class).orderId).isEqualTo("o-1");
        assertThat(read(OfAnOrder.class).at).isEqualTo(Instant.EPOCH);
        assertThat(read(OfAnOrderAlone.class).orderId).isEqualTo("o-1");
        assertThat(read(OfItsFields.class).orderId).isEqualTo("o-1");
        assertThat(read(OfItsFields.class).name).isNull();
    }

    @Test
    void aConstructorWithoutParametersIsCalled() throws JsonProcessingException {
        assertThat(read(WithoutParameters.class).orderId).isEqualTo("o-1");
        assertThat(read(WithoutParameters.class).name).isEqualTo("tea");
    }

    @Test
    void aConstructorThatIsMeantForJsonIsCalled() throws JsonProcessingException {
        assertThat(read(WithCreator.class).order).isEqualTo(new Order("o-1", Instant.EPOCH));
        assertThat(read(WithFactory.class).orderId).isEqualTo("made of o-1");
        assertThat(read(WithNames.class).orderId).isEqualTo("o-1null");
        assertThat(read(WithConstructorProperties.class).orderId).isEqualTo("o-1null");
    }
}
