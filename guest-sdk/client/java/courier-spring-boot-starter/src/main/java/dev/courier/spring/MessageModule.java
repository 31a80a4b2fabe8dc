package dev.courier.spring;

import com.fasterxml.jackson.databind.BeanDescription;
import com.fasterxml.jackson.databind.DeserializationConfig;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.deser.ValueInstantiator;
import com.fasterxml.jackson.databind.deser.ValueInstantiators;
import com.fasterxml.jackson.databind.deser.std.StdValueInstantiator;
import com.fasterxml.jackson.databind.module.SimpleModule;
import dev.courier.Message;
import org.springframework.objenesis.SpringObjenesis;

/**
 * Lets Jackson read messages whose class has no constructor that it could call: they are made without one, and their
 * fields are filled.
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
                boolean message = Message.class.isAssignableFrom(bean.getBeanClass());
                boolean able = usual.canCreateUsingDefault() || usual.canCreateFromObjectWith()
                        || usual.canCreateUsingDelegate();
                return message && !able ? new WithoutConstructor((StdValueInstantiator) usual) : usual;
            }
        });
    }

    private static final class WithoutConstructor extends StdValueInstantiator {
        private WithoutConstructor(StdValueInstantiator usual) {
            super(usual);
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
