package dev.courier.spring;

import dev.courier.Message;
import dev.courier.MessageType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.util.List;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Flow;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.springframework.aop.support.AopUtils;
import org.springframework.beans.factory.BeanFactory;
import org.springframework.core.ReactiveAdapterRegistry;
import org.springframework.core.annotation.MergedAnnotations;
import org.springframework.core.annotation.MergedAnnotations.SearchStrategy;

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

    private static final String WAIT = "wait for it in the method, for example by join() or block(), and return void";
    /** The annotations by which Spring runs methods on other threads. */
    private static final List<String> ASYNC = List.of("org.springframework.scheduling.annotation.Async",
            "jakarta.ejb.Asynchronous", "jakarta.enterprise.concurrent.Asynchronous");

    /** Calls the method; what it throws comes out as it is. */
    void call(BeanFactory beans, Message body, Delivery delivery) throws Throwable {
        Object bean = beans.getBean(beanName);
        Method invocable = AopUtils.selectInvocableMethod(method, bean.getClass());
        invocable.setAccessible(true);
        try {
            Object returned = invocable.getParameterCount() == 1 ? invocable.invoke(bean, body)
                    : invocable.invoke(bean, body, delivery);
            if (returned != null && isLater(returned.getClass())) {
                throw new IllegalStateException(describe() + " returned a " + returned.getClass().getName()
                        + ", whose end nobody waits for: " + WAIT);
            }
        } catch (InvocationTargetException thrown) {
            throw thrown.getTargetException();
        }
    }

    /** Refuses a method that runs after it has returned: its message would be HANDLED before that, or without it. */
    void refuseIfLater() {
        boolean async = Stream.of(method, owner)
                .map(element -> MergedAnnotations.from(element, SearchStrategy.TYPE_HIERARCHY))
                .anyMatch(annotations -> ASYNC.stream().anyMatch(annotations::isPresent));
        if (async) {
            throw new IllegalStateException(describe() + " is asynchronous, so its message would be HANDLED before it "
                    + "has run: remove @Async. The host calls as many handlers at once as the binding's concurrency "
                    + "says");
        }
        if (isLater(method.getReturnType())) {
            throw new IllegalStateException(describe() + " returns a " + method.getReturnType().getSimpleName()
                    + ", whose end nobody waits for: " + WAIT);
        }
    }

    private static boolean isLater(Class<?> type) {
        return Future.class.isAssignableFrom(type) || CompletionStage.class.isAssignableFrom(type)
                || Flow.Publisher.class.isAssignableFrom(type)
                || ReactiveAdapterRegistry.getSharedInstance().getAdapter(type) != null;
    }

    /** The method for people. */
    String describe() {
        return owner.getSimpleName() + "." + method.getName() + "(" + message.getSimpleName() + ")";
    }
}
