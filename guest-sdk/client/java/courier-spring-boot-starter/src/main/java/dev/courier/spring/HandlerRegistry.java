package dev.courier.spring;

import dev.courier.InvalidMessageException;
import dev.courier.Message;
import dev.courier.MessageType;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.springframework.aop.framework.autoproxy.AutoProxyUtils;
import org.springframework.aop.scope.ScopedProxyUtils;
import org.springframework.aop.support.AopUtils;
import org.springframework.beans.factory.SmartInitializingSingleton;
import org.springframework.beans.factory.config.ConfigurableListableBeanFactory;
import org.springframework.core.annotation.AnnotatedElementUtils;
import org.springframework.util.ClassUtils;

/** Knows the methods that handle messages, by group, topic and type. */
final class HandlerRegistry implements SmartInitializingSingleton {
    private static final String METHOD = "handle";

    private final ConfigurableListableBeanFactory beans;
    private final List<String> beanNames;
    private final Map<String, Map<String, Map<String, HandlerMethod>>> groups = new TreeMap<>();

    HandlerRegistry(ConfigurableListableBeanFactory beans) {
        this.beans = beans;
        // A bean with a scope is two: the one that others see, and its target, which is made anew for each scope.
        beanNames = Stream.of(beans.getBeanNamesForAnnotation(EventHandler.class))
                .map(name -> ScopedProxyUtils.isScopedTarget(name) ? ScopedProxyUtils.getOriginalBeanName(name) : name)
                .distinct().toList();
    }

    /** Whether the application has handlers; known before their beans are made. */
    boolean hasHandlers() {
        return !beanNames.isEmpty();
    }

    @Override
    public void afterSingletonsInstantiated() {
        beanNames.forEach(this::register);
    }

    /** The methods of a group by topic and type; null if this service does not handle for it. */
    Map<String, Map<String, HandlerMethod>> group(String group) {
        return groups.get(group);
    }

    /** All methods, by group, topic and type. */
    Map<String, Map<String, Map<String, HandlerMethod>>> all() {
        return Collections.unmodifiableMap(groups);
    }

    /** All methods. */
    Collection<HandlerMethod> methods() {
        List<HandlerMethod> methods = new ArrayList<>();
        groups.values().forEach(topics -> topics.values().forEach(types -> methods.addAll(types.values())));
        return methods;
    }

    private void register(String beanName) {
        Class<?> owner = owner(beanName);
        EventHandler annotation = AnnotatedElementUtils.findMergedAnnotation(owner, EventHandler.class);
        String group = resolve(annotation.consumerGroup());
        String topic = resolve(annotation.topic());
        if (group.isEmpty()) {
            throw new IllegalStateException(owner.getName() + " has no consumer group: "
                    + "@EventHandler(topic = \"..\", consumerGroup = \"..\")");
        }
        boolean any = false;
        for (Method method : owner.getMethods()) {
            if (method.getName().equals(METHOD) && !method.isBridge() && !Modifier.isStatic(method.getModifiers())) {
                add(group, topic, handlerMethod(beanName, owner, method));
                any = true;
            }
        }
        if (!any) {
            throw new IllegalStateException(owner.getName() + " is an @EventHandler without a method that handles: "
                    + "add public void handle(SomeEvent event)");
        }
    }

    /** The class of a bean, without proxies. */
    private Class<?> owner(String beanName) {
        String scoped = ScopedProxyUtils.getTargetBeanName(beanName);
        String name = beans.containsBean(scoped) ? scoped : beanName;
        Class<?> target = AutoProxyUtils.determineTargetClass(beans, name);
        return ClassUtils.getUserClass(target == null ? beans.getType(name) : target);
    }

    private HandlerMethod handlerMethod(String beanName, Class<?> owner, Method method) {
        Class<?>[] parameters = method.getParameterTypes();
        boolean delivered = parameters.length == 2 && parameters[1] == Delivery.class;
        if (parameters.length == 0 || !Message.class.isAssignableFrom(parameters[0])
                || Modifier.isAbstract(parameters[0].getModifiers()) || !(parameters.length == 1 || delivered)) {
            throw new IllegalStateException(method + " is no method of an @EventHandler: its first parameter is a "
                    + "class that extends Event or Broadcast, and a second one, if any, is a Delivery");
        }
        Class<? extends Message> message = parameters[0].asSubclass(Message.class);
        try {
            HandlerMethod handler = new HandlerMethod(beanName, owner, method, message, MessageType.of(message));
            handler.refuseIfLater();
            // A proxy may have only the methods of interfaces: said now, and not by each message.
            AopUtils.selectInvocableMethod(method, beans.getType(beanName));
            return handler;
        } catch (InvalidMessageException error) {
            throw new IllegalStateException(method + ": " + error.getMessage(), error);
        }
    }

    private void add(String group, String topic, HandlerMethod method) {
        String named = method.type().topic();
        if (!topic.isEmpty() && !topic.equals(named)) {
            throw new IllegalStateException(method.describe() + " takes messages of the topic " + named
                    + ", and @EventHandler says " + topic + ": make both the same");
        }
        HandlerMethod other = groups.computeIfAbsent(group, any -> new TreeMap<>())
                .computeIfAbsent(named, any -> new TreeMap<>()).put(method.type().name(), method);
        if (other != null) {
            throw new IllegalStateException(other.describe() + " and " + method.describe() + " both handle "
                    + method.type().name() + " of the topic " + named + " for the group " + group
                    + ": leave one, or give them groups of their own");
        }
    }

    private String resolve(String text) {
        String resolved = beans.resolveEmbeddedValue(text);
        return resolved == null ? "" : resolved.trim();
    }
}
