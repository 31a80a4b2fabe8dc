package dev.courier.spring;

import dev.courier.Message;
import dev.courier.MessageType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import org.springframework.aop.support.AopUtils;
import org.springframework.beans.factory.BeanFactory;

/**
 * A method that handles messages of one class.
 *
 * @param beanName the bean that has it
 * @param owner    the class of the bean, without proxies
 * @param method   takes the message, and perhaps a {@link Delivery}
 * @param message  the class of the messages
 * @param type     the topic and type of the messages
 */
record HandlerMethod(String beanName, Class<?> owner, Method method, Class<? extends Message> message,
        MessageType type) {

    /** Calls the method; what it throws comes out as it is. */
    void call(BeanFactory beans, Message body, Delivery delivery) throws Throwable {
        Object bean = beans.getBean(beanName);
        Method invocable = AopUtils.selectInvocableMethod(method, bean.getClass());
        invocable.setAccessible(true);
        try {
            if (invocable.getParameterCount() == 1) {
                invocable.invoke(bean, body);
            } else {
                invocable.invoke(bean, body, delivery);
            }
        } catch (InvocationTargetException thrown) {
            throw thrown.getTargetException();
        }
    }

    /** The method for people. */
    String describe() {
        return owner.getSimpleName() + "." + method.getName() + "(" + message.getSimpleName() + ")";
    }
}
