package dev.courier;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Inherited;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/** Names the topic on which messages of a class are published. */
@Documented
@Inherited
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.TYPE)
public @interface Topic {
    /**
     * The topic's name.
     *
     * @return for example {@code order}
     */
    String name();

    /**
     * The message's type, as other services see it.
     *
     * @return empty for the simple name of the class
     */
    String type() default "";
}
