package dev.courier.spring;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;
import org.springframework.core.annotation.AliasFor;
import org.springframework.stereotype.Component;

/**
 * A bean that handles messages of a topic for a consumer group. Each public method {@code handle} takes messages of
 * the class that is its first parameter, and may take a {@link Delivery} beside it:
 *
 * <pre>{@code
 * @EventHandler(topic = "order", consumerGroup = "stock")
 * class OrderMessageHandler {
 *     public void handle(OrderCreated order) { .. }
 * }
 * }</pre>
 *
 * <p>The message is handled when the method returns, so a method that runs on after that is refused. An exception makes
 * it fail, and is the reason; {@link dev.courier.Retry}, {@link dev.courier.Reject} and {@link dev.courier.Unavailable}
 * say more than that. A message may come more than once, with the same {@link Delivery#id()}.
 */
@Documented
@Component
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
public @interface EventHandler {
    /**
     * The topic, which may have placeholders such as {@code ${order.topic}}.
     *
     * @return empty for the topic that the messages' class names
     */
    String topic() default "";

    /**
     * The consumer group, which may have placeholders.
     *
     * @return for example {@code stock}
     */
    String consumerGroup();

    /**
     * The bean's name.
     *
     * @return empty for the usual one
     */
    @AliasFor(annotation = Component.class, attribute = "value")
    String beanName() default "";
}
