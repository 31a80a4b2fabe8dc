package dev.courier;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import java.security.Key;
import java.security.Provider;
import java.security.Security;
import java.security.spec.AlgorithmParameterSpec;
import java.time.Clock;
import java.time.Duration;
import java.time.Instant;
import java.time.ZoneOffset;
import java.util.List;
import javax.crypto.MacSpi;
import org.junit.jupiter.api.Test;

/** Signatures as Standard Webhooks describes them, with the example that its libraries share. */
class WebhookSignatureTest {
    private static final String KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    private static final String OTHER_KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    private static final String ID = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    private static final String TIME = "1614265330";
    private static final byte[] BODY = "{\"test\": 2432232314}".getBytes(StandardCharsets.UTF_8);
    private static final String SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    private static WebhookSignature at(long seconds, String... keys) {
        Clock clock = Clock.fixed(Instant.ofEpochSecond(seconds), ZoneOffset.UTC);
        return new WebhookSignature(List.of(keys), Duration.ofMinutes(5), clock);
    }

    @Test
    void theSharedExampleIsGood() {
        assertThat(at(1_614_265_330, KEY).sign(ID, TIME, BODY)).isEqualTo(SIGNATURE);
        assertThat(at(1_614_265_330, KEY).refusal(ID, TIME, SIGNATURE, BODY)).isNull();
    }

    @Test
    void oneOfTwoKeysAndOneOfTwoSignaturesIsEnough() {
        assertThat(at(1_614_265_330, OTHER_KEY, KEY).refusal(ID, TIME, SIGNATURE, BODY)).isNull();
        assertThat(at(1_614_265_330, KEY).refusal(ID, TIME, "v1,bm9uZQ== " + SIGNATURE, BODY)).isNull();
        assertThat(at(1_614_265_330, OTHER_KEY).refusal(ID, TIME, SIGNATURE, BODY)).contains("another key");
    }

    @Test
    void moreSignaturesThanARotationNeedsAreRefused() {
        WebhookSignature signature = at(1_614_265_330, KEY);
        assertThat(signature.refusal(ID, TIME, "v1,bm9uZQ== ".repeat(7) + SIGNATURE, BODY)).isNull();
        assertThat(signature.refusal(ID, TIME, "v1,bm9uZQ== ".repeat(8) + SIGNATURE, BODY)).contains("more than 8");
        assertThat(signature.refusal(ID, TIME, SIGNATURE + " v1,bm9uZQ==".repeat(8), BODY)).contains("more than 8");
    }

    /** An HMAC that counts how often it is given the body. */
    public static final class CountingMac extends MacSpi {
        private static int bodies;

        @Override
        protected int engineGetMacLength() {
            return 32;
        }

        @Override
        protected void engineInit(Key key, AlgorithmParameterSpec parameters) {
        }

        @Override
        protected void engineUpdate(byte input) {
        }

        @Override
        protected void engineUpdate(byte[] input, int offset, int length) {
            bodies += length == BODY.length ? 1 : 0;
        }

        @Override
        protected byte[] engineDoFinal() {
            return new byte[32];
        }

        @Override
        protected void engineReset() {
        }
    }

    @Test
    void theBodyIsHashedOnceForAKeyHoweverManySignaturesCame() {
        Provider counting = new Provider("counting", "1", "counts") {
        };
        counting.put("Mac.HmacSHA256", CountingMac.class.getName());
        Security.insertProviderAt(counting, 1);
        try {
            assertThat(at(1_614_265_330, KEY, OTHER_KEY).refusal(ID, TIME, "v1,bm9uZQ==" + " v1,bm9uZQ==".repeat(7),
                    BODY)).contains("another key");
            assertThat(CountingMac.bodies).isEqualTo(2);
            assertThat(at(1_614_265_330, KEY).refusal(ID, TIME, "v1,bm9uZQ==" + " v1,bm9uZQ==".repeat(8), BODY))
                    .contains("more than 8");
            assertThat(CountingMac.bodies).isEqualTo(2);
        } finally {
            Security.removeProvider("counting");
        }
    }

    @Test
    void whatWasChangedIsRefused() {
        WebhookSignature signature = at(1_614_265_330, KEY);
        assertThat(signature.refusal("other", TIME, SIGNATURE, BODY)).contains("another key");
        assertThat(signature.refusal(ID, "1614265331", SIGNATURE, BODY)).contains("another key");
        assertThat(signature.refusal(ID, TIME, SIGNATURE, new byte[0])).contains("another key");
        assertThat(signature.refusal(ID, TIME, "v2," + SIGNATURE.substring(3), BODY)).contains("another key");
        assertThat(signature.refusal(null, TIME, SIGNATURE, BODY)).contains("not signed");
        assertThat(signature.refusal(ID, "soon", SIGNATURE, BODY)).contains("webhook-timestamp");
        assertThat(signature.refusal(ID, "9223372036854775807", SIGNATURE, BODY)).contains("webhook-timestamp");
    }

    @Test
    void aTimeBeyondTheToleranceIsRefused() {
        assertThat(at(1_614_265_330 + 300, KEY).refusal(ID, TIME, SIGNATURE, BODY)).isNull();
        assertThat(at(1_614_265_330 - 300, KEY).refusal(ID, TIME, SIGNATURE, BODY)).isNull();
        assertThat(at(1_614_265_330 + 301, KEY).refusal(ID, TIME, SIGNATURE, BODY)).contains("300 s");
        assertThat(at(1_614_265_330 - 301, KEY).refusal(ID, TIME, SIGNATURE, BODY)).contains("300 s");
    }

    @Test
    void aKeyThatIsNoneIsRefusedWithoutShowingIt() {
        for (String key : List.of("hunter2", "whsec_hunter2!", "whsec_c2hvcnQ=")) {
            assertThatThrownBy(() -> at(0, key)).isInstanceOf(IllegalArgumentException.class)
                    .hasMessageContaining("signing key").hasMessageNotContaining("hunter2");
        }
    }
}
