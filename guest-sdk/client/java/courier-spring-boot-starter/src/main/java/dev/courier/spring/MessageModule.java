package dev.courier.spring;

import com.fasterxml.jackson.annotation.JsonCreator;
import com.fasterxml.jackson.databind.AnnotationIntrospector;
import com.fasterxml.jackson.databind.BeanDescription;
import com.fasterxml.jackson.databind.DeserializationConfig;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.JavaType;
import com.fasterxml.jackson.databind.deser.ValueInstantiator;
import com.fasterxml.jackson.databind.deser.ValueInstantiators;
import com.fasterxml.jackson.databind.deser.std.StdValueInstantiator;
import com.fasterxml.jackson.databind.introspect.AnnotatedWithParams;
import com.fasterxml.jackson.databind.module.SimpleModule;
import dev.courier.Message;
import java.util.stream.IntStream;
import org.springframework.core.KotlinDetector;
import org.springframework.objenesis.SpringObjenesis;

/**
 * Lets Jackson read messages of any class: they are made without a constructor, and their fields are filled.
 *
 * <p>A constructor is called if it has no parameters or its class says that JSON is for it. Jackson takes one for that
 * also where its parameters merely have names, and would call {@code OrderCreated(Order order)} with null.
 */
final class MessageModule extends SimpleModule {
    private static final SpringObjenesis OBJENESIS = new SpringObjenesis();

    MessageModule() {
        super("courier");
    }

    @Override
    public void setupModule(SetupContext context) {
        super.setupModule(context);
        context.addValueInstantiators(new ValueInstantiators.Base() {
            @Override
            public ValueInstantiator findValueInstantiator(DeserializationConfig config, BeanDescription bean,
                    ValueInstantiator usual) {
                if (!Message.class.isAssignableFrom(bean.getBeanClass()) || usual.canCreateUsingDefault()
                        || isMeant(usual.getWithArgsCreator(), config) || isMeant(usual.getDelegateCreator(), config)
                        || isMeant(usual.getArrayDelegateCreator(), config)) {
                    return usual;
                }
                return new WithoutConstructor(config, bean.getType());
            }
        });
    }

    /** Whether a constructor or factory method says that JSON is for it. */
    private static boolean isMeant(AnnotatedWithParams creator, DeserializationConfig config) {
        if (creator == null) {
            return false;
        }
        AnnotationIntrospector annotations = config.getAnnotationIntrospector();
        JsonCreator.Mode mode = annotations.findCreatorAnnotation(config, creator);
        if (mode != null && mode != JsonCreator.Mode.DISABLED) {
            return true;
        }
        // Parameters of Kotlin have defaults that nothing else knows.
        return KotlinDetector.isKotlinType(creator.getDeclaringClass())
                || IntStream.range(0, creator.getParameterCount()).mapToObj(creator::getParameter).anyMatch(parameter ->
                        annotations.findNameForDeserialization(parameter) != null
                        || annotations.findInjectableValue(parameter) != null);
    }

    private static final class WithoutConstructor extends StdValueInstantiator {
        private WithoutConstructor(DeserializationConfig config, JavaType type) {
            super(config, type);
        }

        @Override
        public boolean canCreateUsingDefault() {
            return true;
        }

        @Override
        public Object createUsingDefault(DeserializationContext context) {
            return OBJENESIS.newInstance(getValueClass());
        }
    }
}
