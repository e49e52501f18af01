// The wall clock as a JVM has it: see probe.c for what it reads and prints. Beside it is the monotonic clock,
// for it makes no system call of its own.
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.time.Instant;
import java.util.concurrent.locks.LockSupport;

public class Probe {
    static volatile long sink;

    static long told() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000_000L + now.getNano();
    }

    static double cost(int count) {
        long best = Long.MAX_VALUE;
        for (int round = 0; round < 20; round++) {
            long start = System.nanoTime(), sum = 0;
            for (int i = 0; i < count; i++) sum += told();
            best = Math.min(best, System.nanoTime() - start);
            sink = sum;
        }
        return (double) best / count;
    }

    static void sample(PrintStream out, int count, long gap) {
        StringBuilder text = new StringBuilder();
        for (int i = 0; i < count; i++) {
            for (int shot = 0; shot < 3; shot++) {
                long before = System.nanoTime(), is = told(), after = System.nanoTime();
                text.append(before).append(' ').append(is).append(' ').append(after).append('\n');
            }
            if (gap > 0) LockSupport.parkNanos(gap);
        }
        out.print(text);
    }

    static void busy() {
        while (true) sink = told() + System.currentTimeMillis() + System.nanoTime();
    }

    public static void main(String[] none) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        FileOutputStream file = new FileOutputStream(FileDescriptor.out);
        PrintStream out = new PrintStream(new BufferedOutputStream(file, 1 << 16));
        for (int i = 0; i < 20_000; i++) sink = told() + System.nanoTime(); // until it is compiled
        out.println("ready");
        out.flush();
        for (String line; (line = in.readLine()) != null; out.flush()) {
            String[] words = line.split(" ");
            int count = words.length > 1 ? Integer.parseInt(words[1]) : 0;
            switch (words[0]) {
                case "sample": sample(out, count, Long.parseLong(words[2])); break;
                case "cost": out.printf("%.2f%n", cost(count)); break;
                case "load":
                    for (int i = 0; i < count; i++) {
                        Thread thread = new Thread(Probe::busy);
                        thread.setDaemon(true);
                        thread.start();
                    }
                    break;
                default:
            }
            out.println(".");
        }
    }
}
