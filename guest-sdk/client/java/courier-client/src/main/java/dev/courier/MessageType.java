package dev.courier;

import java.lang.reflect.Field;
import java.util.ArrayList;
import java.util.List;

/**
 * What the annotations of a message's class say.
 *
 * @param topic     the topic that its messages are published on
 * @param name      the type that other services see
 * @param broadcast whether every node of each group handles it
 */
public record MessageType(String topic, String name, boolean broadcast) {
    private static final ClassValue<Described> DESCRIBED = new ClassValue<>() {
        @Override
        protected Described computeValue(Class<?> type) {
            return describe(type);
        }
    };

    private record Described(MessageType type, Field key) {
    }

    /**
     * Reads the annotations of a class.
     *
     * @param type the class
     * @return its topic and type
     * @throws InvalidMessageException when it has no {@link Topic}, or more than one {@link PrimaryKey}
     */
    public static MessageType of(Class<? extends Message> type) {
        return DESCRIBED.get(type).type();
    }

    /** The primary key of a message; null if its class has none. */
    static String keyOf(Message message) {
        Field field = DESCRIBED.get(message.getClass()).key();
        if (field == null) {
            return null;
        }
        Object key;
        try {
            key = field.get(message);
        } catch (IllegalAccessException impossible) {
            throw new IllegalStateException(field + " was made accessible", impossible);
        }
        if (key == null) {
            // Without a key it would be handled out of order, which nobody would notice.
            throw new InvalidMessageException("the primary key " + nameOf(field) + " is null: give it a value, "
                    + "or remove @PrimaryKey if the order does not matter");
        }
        return key.toString();
    }

    private static Described describe(Class<?> type) {
        Topic topic = type.getAnnotation(Topic.class);
        if (topic == null || topic.name().isBlank()) {
            throw new InvalidMessageException(type.getName() + " names no topic: add @Topic(name = \"..\")");
        }
        List<Field> keys = new ArrayList<>();
        for (Class<?> at = type; at != Message.class && at != null; at = at.getSuperclass()) {
            for (Field field : at.getDeclaredFields()) {
                if (field.isAnnotationPresent(PrimaryKey.class)) {
                    keys.add(field);
                }
            }
        }
        if (keys.size() > 1) {
            throw new InvalidMessageException(type.getName() + " has " + keys.size() + " primary keys ("
                    + nameOf(keys.get(0)) + ", " + nameOf(keys.get(1)) + "): leave one @PrimaryKey");
        }
        Field key = keys.isEmpty() ? null : keys.get(0);
        if (key != null) {
            key.setAccessible(true);
        }
        String name = topic.type().isEmpty() ? type.getSimpleName() : topic.type();
        boolean broadcast = Broadcast.class.isAssignableFrom(type);
        return new Described(new MessageType(topic.name(), name, broadcast), key);
    }

    private static String nameOf(Field field) {
        return field.getDeclaringClass().getSimpleName() + "." + field.getName();
    }
}
